import ts from "typescript";

/**
 * The titles of the tests and groups of tests in a file's text, as written, `${…}` and all; those that never run (`skip`, `todo`) are left out. What a table of cases puts into a title is not
 * there yet.
 */
export function testTitles(text: string): string[] {
  const file = ts.createSourceFile("file.ts", text, ts.ScriptTarget.Latest, true);
  const titles: string[] = [];
  const look = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && runsTest(node.expression)) {
      const [title] = node.arguments;
      if (title && (ts.isStringLiteralLike(title) || ts.isTemplateExpression(title)))
        titles.push(ts.isTemplateExpression(title) ? title.getText(file).slice(1, -1) : title.text);
    }
    ts.forEachChild(node, look);
  };
  look(file);
  return titles;
}

const functions = ["test", "it", "describe"];
const variants = ["each", "for", "runIf", "skipIf", "concurrent", "sequential"];

/** `test`, `it` and `describe`, and their variants: `test.each(…)`, `it.runIf(…)`. */
function runsTest(callee: ts.Expression): boolean {
  if (ts.isIdentifier(callee)) return functions.includes(callee.text);
  if (ts.isPropertyAccessExpression(callee)) return variants.includes(callee.name.text) && runsTest(callee.expression);
  if (ts.isTaggedTemplateExpression(callee)) return runsTest(callee.tag);
  return ts.isCallExpression(callee) && runsTest(callee.expression);
}
