#!/usr/bin/env node
// For any Node from 12 on, so that an older one can say what is missing. biome-ignore-all lint/style/useNodejsImportProtocol: Node 12 does not know it.
"use strict";

const path = require("path");

if (Number.parseInt(process.versions.node, 10) >= 24) {
  void import("../src/main.ts").then((main) => main.run());
} else {
  require("./with-node-24.js").run(__filename, path.join(__dirname, "../../.."));
}
