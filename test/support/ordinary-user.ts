import { chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";

const repositoryRoot = join(import.meta.dirname, "../..");

/** Nobody's on the machine, nor in the ranges that login.defs(5) gives to people and their subordinate ids. */
const uid = 0x6fff_0000;
/** The ids after that: what usermod --add-subuids would have given. */
const firstSubordinateId = uid + 1;

/**
 * What Debian gives an ordinary user, in a mount namespace of its own so that the machine stays as it is: a line in passwd(5) and group(5), subordinate ids, and
 * /dev/net/tun for everyone (as udev makes it). This clone and this Node are put where that user can reach them, which is not so below /root. The shell ends in
 * exec, so the process keeps its pid.
 */
const becomeUser = `
set -eu
folder=$1 uid=$2 first=$3 home=$4 repository=$5 node=$6 script=$7
shift 7
mount -t tmpfs -o mode=0755 tmpfs "$folder"
cp /etc/passwd /etc/group "$folder"
echo "berth-test:x:$uid:$uid::$home:/bin/sh" >> "$folder/passwd"
echo "berth-test:x:$uid:" >> "$folder/group"
echo "berth-test:$first:65536" | tee "$folder/subuid" > "$folder/subgid"
for file in passwd group subuid subgid; do touch "/etc/$file"; mount --bind "$folder/$file" "/etc/$file"; done
mknod -m 0666 "$folder/tun" c 10 200
mount --bind "$folder/tun" /dev/net/tun
mkdir "$folder/repository"
mount --bind "$repository" "$folder/repository"
touch "$folder/node"
mount --bind "$node" "$folder/node"
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups -- "$folder/node" "$folder/repository/$script" "$@"
`;

/**
 * How a script of this clone is run by Node as an ordinary user, and that user's home; `folder` and its neighbour `.home` are given to the user, what the
 * user sees of the machine stands in `.etc`. Root only.
 */
export function asOrdinaryUser(script: string, folder: string): { command: string[]; home: string } {
  const home = `${folder}.home`;
  const etc = `${folder}.etc`;
  for (const path of [folder, home]) {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    chownSync(path, uid, uid);
  }
  mkdirSync(etc, { recursive: true });
  const facts = [etc, `${uid}`, `${firstSubordinateId}`, home, repositoryRoot, process.execPath, script];
  return { command: ["unshare", "--mount", "--", "sh", "-c", becomeUser, "sh", ...facts], home };
}

/** Whom berthd is tried as: with root at hand both, else whoever runs the tests. */
export const whoRunsBerthd =
  process.getuid?.() === 0
    ? [
        { who: "root", ordinaryUser: false },
        { who: "an ordinary user", ordinaryUser: true },
      ]
    : [{ who: "an ordinary user", ordinaryUser: false }];
