// The arrows of ARCHITECTURE.md as rules: who may import whom. tools/checks/arrows.host.test.ts plants a violation of each rule and sees it caught.

/** The daemon's rooms, lowest first; those in one line never import each other. */
const floors = [
  ["core"],
  ["store", "host"],
  ["operations", "drivers", "images", "storage", "archives", "guest", "network", "metadata", "identity", "nodes"],
  ["workflows"],
  ["controllers"],
  ["server"],
  ["services"],
  ["compat"],
];

const daemon = "^packages/daemon/src/";
/** Tests and what stands in a folder `testing` for them may reach wherever they like; what is shipped never imports either. */
const tests = "\\.test\\.ts$|/testing/";

/** A room may import itself and the floors below, nothing beside or above. */
const arrows = floors.flatMap((rooms, floor) =>
  rooms.map((room) => {
    const allowed = [room, ...floors.slice(0, floor).flat()].join("|");
    return {
      name: `arrows-${room}`,
      comment: `${room}/ may import ${allowed.replaceAll("|", ", ")} and @berth/api; a workflow's step joins rooms that stand side by side.`,
      severity: "error",
      from: { path: `${daemon}${room}/`, pathNot: tests },
      to: { path: daemon, pathNot: `${daemon}(${allowed})/` },
    };
  }),
);

const error = (name, comment, from, to) => ({ name, comment, severity: "error", from, to });

module.exports = {
  forbidden: [
    ...arrows,
    error(
      "no-cycles",
      "A cycle has no lowest part to begin at. (Files of one room may know each other's types.)",
      {},
      { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    ),
    error("resolved", "An import that leads nowhere.", {}, { couldNotResolve: true }),
    error(
      "api-alone",
      "The API is the lowest floor: browsers use it too.",
      { path: "^packages/api/src/", pathNot: tests },
      { path: "^packages/(?!api/)|^(test|tools|bench)/" },
    ),
    error(
      "api-no-node",
      "The API runs in browsers too.",
      { path: "^packages/api/src/", pathNot: tests },
      { dependencyTypes: ["core"] },
    ),
    error(
      "clients-only-api",
      "The CLI and the dashboard know the daemon by its API alone.",
      { path: "^packages/(cli|web)/", pathNot: tests },
      { path: "^packages/daemon/" },
    ),
    error(
      "core-is-pure",
      "Rules decide from data: no clock, no file, no program.",
      { path: `${daemon}core/`, pathNot: tests },
      { dependencyTypes: ["core"] },
    ),
    error(
      "programs-through-host",
      "host/ is the only door to programs on a machine.",
      { path: daemon, pathNot: [`${daemon}host/`, tests] },
      { path: "^(node:)?child_process$", dependencyTypes: ["core"] },
    ),
    error(
      "drivers-apart",
      "A driver knows no other driver; what they share stands in drivers/ itself.",
      { path: `${daemon}drivers/([^/]+)/`, pathNot: tests },
      { path: `${daemon}drivers/[^/]+/`, pathNot: `${daemon}drivers/$1/` },
    ),
    error(
      "drivers-by-map",
      "What joins the rooms knows drivers by their map alone: a new one changes nothing there.",
      { path: `${daemon}[^/]+$`, pathNot: tests },
      { path: `${daemon}drivers/[^/]+/` },
    ),
    error(
      "no-tests-in-products",
      "What is shipped never imports a test, a tool or a benchmark.",
      { path: "^packages/", pathNot: tests },
      { path: [tests, "^(test|tools|bench)/"] },
    ),
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "types", "default"] },
  },
};
