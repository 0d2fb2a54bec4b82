import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { performanceFiles } from "../bench/support/performance-files.ts";
import { generatedFiles } from "../packages/daemon/src/server/generated-files.ts";
import { repositoryRoot } from "./support/parts.ts";

// `npm run generate`: what is made from the code, and from what was measured; a test notices when it was forgotten.
const files = { ...generatedFiles(), ...(await performanceFiles()) };
for (const [path, content] of Object.entries(files)) {
  writeFileSync(join(repositoryRoot, path), content);
  console.log(path);
}
