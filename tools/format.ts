import { nodePart, runInForeground } from "./support/parts.ts";

// `npm run format`: formats, and mends what the linter can mend by itself.
process.exitCode = await runInForeground(nodePart("format", "@biomejs/biome/bin/biome", "check", "--write"));
