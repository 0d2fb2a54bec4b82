import { readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { SetupError } from "./progress.mjs";

/**
 * Builds that are not root's need a range of user ids of their own (subuid(5)); Debian gives one to every user made by adduser.
 * @param {string} command
 */
export async function ensureSubordinateIds(command) {
  if (process.getuid?.() === 0) return;
  const user = userInfo();
  const missing = ["/etc/subuid", "/etc/subgid"].filter((path) => !hasRange(path, user.username, user.uid));
  if (missing.length === 0) return;
  throw new SetupError(
    [
      `npm ${command} builds images as ${user.username}, who has no range of ids for that in ${missing.join(" and ")}. As root:`,
      `  usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${user.username}`,
      "(another range of 65536 ids when these are taken)",
    ].join("\n"),
  );
}

/**
 * @param {string} path
 * @param {string} name
 * @param {number} uid
 */
function hasRange(path, name, uid) {
  let text = "";
  try {
    text = readFileSync(path, "utf8");
  } catch {}
  return text.split("\n").some((line) => [name, `${uid}`].includes(line.split(":")[0] ?? ""));
}
