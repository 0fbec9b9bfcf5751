/* Search: of several pages with one name the derivation comes first, and each says what it is. */
var Scorer = {
  score: (result) => {
    const [docname, title, anchor, , score] = result;
    const derivation = docname.startsWith("derivations/");
    const reference = docname.startsWith("reference/");
    const japanese = docname.startsWith("ja/");
    if (!anchor && derivation) result[1] = `${title}, derived`;
    if (!anchor && reference) result[1] = `${title}, reference`;
    if (!anchor && japanese) result[1] = `${title}（日本語）`;
    return score + (derivation ? (anchor ? 5 : 30) : 0) - (japanese ? 10 : 0);
  },
  // Sphinx's own values
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
