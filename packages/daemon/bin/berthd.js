#!/usr/bin/env node
// For any Node from 12 on, so that an older one can say what is missing. biome-ignore-all lint/style/useNodejsImportProtocol: Node 12 does not know it.
"use strict";

const path = require("path");

const repository = path.join(__dirname, "../../..");
// By itself V8 lets young objects fill 16 MiB three times over before it looks whether anybody still needs them.
const small = "--max-semi-space-size=4";

if (Number.parseInt(process.versions.node, 10) < 24) {
  require("./with-node-24.js").run(__filename, repository);
} else if (!process.execArgv.includes(small)) {
  // The same process begins again: it cannot be told later.
  const args = process.execArgv.concat(small, __filename, process.argv.slice(2));
  process.execve(process.execPath, [process.execPath].concat(args), process.env);
} else {
  // What is compiled once is not compiled again: it halves the time to start, and the compiler itself takes 20 MiB. Nothing is lost where it cannot be written.
  // Threads find it in the environment.
  process.env.NODE_COMPILE_CACHE = path.join(repository, ".tools/compile-cache");
  require("module").enableCompileCache(process.env.NODE_COMPILE_CACHE);
  void import("../src/main.ts");
}
