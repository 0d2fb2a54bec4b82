import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { generatedFiles } from "../packages/daemon/src/server/generated-files.ts";
import { repositoryRoot } from "./support/parts.ts";

// `npm run generate`: what is made from the code; a test notices when it was forgotten.
for (const [path, content] of Object.entries(generatedFiles())) {
  writeFileSync(join(repositoryRoot, path), content);
  console.log(path);
}
