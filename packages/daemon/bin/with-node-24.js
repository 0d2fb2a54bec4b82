// For any Node from 12 on: see its neighbour. biome-ignore-all lint/style/useNodejsImportProtocol: Node 12 does not know it.
"use strict";

const childProcess = require("child_process");
const fs = require("fs");
const os = require("os");
const path = require("path");

/** Runs a script again under the Node 24 that `npm start` has put into the clone; without one, says how to get it. */
exports.run = (script, repository) => {
  const node = path.join(repository, ".tools/node_modules", `node-${process.platform}-${process.arch}`, "bin/node");
  if (!fs.existsSync(node)) {
    console.error(`Berth needs Node 24 or newer; this is Node ${process.versions.node}.`);
    console.error(
      `Run npm start in ${repository} once: it fetches one for itself. Or install Node 24: https://nodejs.org`,
    );
    process.exit(1);
  }
  const child = childProcess.spawn(node, ["--", script].concat(process.argv.slice(2)), { stdio: "inherit" });
  // Ctrl-C reaches the child by itself, as it is in the same process group; what is sent to this process alone is passed on.
  process.on("SIGINT", () => {});
  for (const name of ["SIGTERM", "SIGHUP"]) process.on(name, () => child.kill(name));
  child.on("error", (error) => {
    console.error(`Cannot run ${node}: ${error.message}`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => process.exit(signal ? 128 + os.constants.signals[signal] : code));
};
