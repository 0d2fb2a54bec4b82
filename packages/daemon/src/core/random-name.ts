const adjectives =
  "amber brave brisk calm clear coral crisp dapper eager fair fleet gentle golden hardy ivory jolly keen lively lucid mellow noble proud quick quiet rapid ruby sage silver snug steady swift tidal vivid warm".split(
    " ",
  );
const nouns =
  "anchor barque beacon brig buoy canoe clipper cutter dhow dinghy dock drifter ferry galley gig harbour jetty kayak ketch lantern launch lugger mast mooring pier pilot pinnace quay rudder sail schooner skiff sloop tender wharf yawl".split(
    " ",
  );

/** A name for what was not given one: `swift-ketch-41`. `random` gives numbers in [0, 1). */
export function randomName(random: () => number): string {
  const pick = (words: readonly string[]) => words[Math.floor(random() * words.length)] ?? "berth";
  return `${pick(adjectives)}-${pick(nouns)}-${10 + Math.floor(random() * 90)}`;
}
