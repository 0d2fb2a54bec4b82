#!/usr/bin/env -S node --
// For any Node from 12 on, so that an older one can say what is missing. biome-ignore-all lint/style/useNodejsImportProtocol: Node 12 does not know it.
// After the `--` in the line above Node looks for no options of its own: it would take --env-file wherever that stands, and NODE_OPTIONS from the file.
"use strict";

const path = require("path");

const repository = path.join(__dirname, "../../..");
if (Number.parseInt(process.versions.node, 10) >= 24) {
  // What is compiled once is not compiled again: it halves the time to start, and the compiler itself takes 20 MiB. Nothing is lost where it cannot be written.
  require("module").enableCompileCache(path.join(repository, ".tools/compile-cache"));
  void import("../src/main.ts").then((main) => main.run());
} else {
  require("./with-node-24.js").run(__filename, repository);
}
