import { writeFileSync } from "node:fs";
import { generatedFiles } from "../packages/daemon/src/server/generated-files.ts";

// `npm run generate`: writes the documents that are made from code; tests fail when they are not fresh.
for (const [path, content] of Object.entries(generatedFiles())) {
  writeFileSync(new URL(`../${path}`, import.meta.url), content);
  console.log(`wrote ${path}`);
}
