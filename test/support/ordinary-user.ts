import { chownSync, mkdirSync } from "node:fs";

/** Nobody's on the machine, nor in the ranges that login.defs(5) gives to people and their subordinate ids. */
const uid = 0x6fff_0000;
/** The ids after that: what usermod --add-subuids would have given. */
const firstSubordinateId = uid + 1;

/**
 * What Debian gives an ordinary user, in a mount namespace of its own so that the machine stays as it is: a line in passwd(5) and group(5), subordinate ids, and
 * /dev/net/tun for everyone (as udev makes it). Each command is followed by exec, so the process keeps its pid.
 */
const becomeUser = `
set -eu
folder=$1 uid=$2 first=$3 home=$4; shift 4
mount -t tmpfs -o mode=0755 tmpfs "$folder"
cp /etc/passwd /etc/group "$folder"
echo "berth-test:x:$uid:$uid::$home:/bin/sh" >> "$folder/passwd"
echo "berth-test:x:$uid:" >> "$folder/group"
echo "berth-test:$first:65536" | tee "$folder/subuid" > "$folder/subgid"
for file in passwd group subuid subgid; do touch "/etc/$file"; mount --bind "$folder/$file" "/etc/$file"; done
mknod -m 0666 "$folder/tun" c 10 200
mount --bind "$folder/tun" /dev/net/tun
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups -- "$@"
`;

/** How a command is run as an ordinary user; `folder` and its neighbours `.home` and `.etc` are made or given to that user. Root only. */
export function asOrdinaryUser(command: readonly string[], folder: string): { command: string[]; home: string } {
  const home = `${folder}.home`;
  const etc = `${folder}.etc`;
  for (const path of [folder, home]) {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    chownSync(path, uid, uid);
  }
  mkdirSync(etc, { recursive: true });
  const facts = [etc, `${uid}`, `${firstSubordinateId}`, home];
  return { command: ["unshare", "--mount", "--", "sh", "-c", becomeUser, "sh", ...facts, ...command], home };
}

/** Whom berthd is tried as: with root at hand both, else whoever runs the tests. */
export const whoRunsBerthd =
  process.getuid?.() === 0
    ? [
        { who: "root", ordinaryUser: false },
        { who: "an ordinary user", ordinaryUser: true },
      ]
    : [{ who: "an ordinary user", ordinaryUser: false }];
