/**
 * @typedef {object} HostPackage
 * @property {string} name the package's name in Debian
 * @property {string} why
 * @property {readonly string[]} has programs, or absolute paths of files, by which it is known to be there: on any distribution
 * @property {readonly ("start" | "test" | "bench")[]} for the commands that need it
 * @property {string} [service] what its installation would switch on; it is left switched off
 */

const all = /** @type {const} */ (["start", "test", "bench"]);
const tests = /** @type {const} */ (["test"]);

/** Everything Berth takes from the host's own packages. */
/** @type {readonly HostPackage[]} */
export const hostPackages = [
  { name: "qemu-system-x86", why: "runs the virtual machines", has: ["qemu-system-x86_64"], for: all },
  { name: "qemu-utils", why: "makes, grows and checks disks", has: ["qemu-img"], for: all },
  { name: "e2fsprogs", why: "makes the file systems of images", has: ["mke2fs", "e2fsck", "debugfs"], for: all },
  { name: "s6", why: "keeps console logs within bounds without berthd", has: ["s6-log"], for: all },
  { name: "execline", why: "starts a guest inside its network namespace", has: ["execlineb"], for: all },
  { name: "passt", why: "the guests' network when berthd is not root", has: ["pasta"], for: all },
  { name: "nftables", why: "keeps guests off the host's own addresses", has: ["nft"], for: all },
  { name: "buildah", why: "builds Dockerfiles", has: ["buildah"], for: all },
  { name: "uidmap", why: "user ids for builds when berthd is not root", has: ["newuidmap"], for: all },
  { name: "skopeo", why: "hands what was built on as an image", has: ["skopeo"], for: all },
  { name: "git", why: "fetches repositories with a Dockerfile", has: ["git"], for: all },
  { name: "ca-certificates", why: "knows whom to trust", has: ["/etc/ssl/certs/ca-certificates.crt"], for: all },
  { name: "zstd", why: "unpacks image layers", has: ["zstd"], for: all },
  { name: "xz-utils", why: "unpacks the kernel's modules", has: ["xz"], for: all },
  { name: "gcc", why: "compiles the guest's init", has: ["gcc"], for: all },
  { name: "libc6-dev", why: "what the guest's init is compiled with", has: ["/usr/include/stdlib.h"], for: all },
  { name: "libjansson-dev", why: "JSON for the guest's init", has: ["/usr/include/jansson.h"], for: all },
  { name: "dropbear-bin", why: "exec, shell and cp into guests", has: ["dropbear"], for: all },
  { name: "busybox-static", why: "what the first image is made of", has: ["busybox"], for: all },
  { name: "umoci", why: "what making an image is measured against", has: ["umoci"], for: ["bench"] },
  {
    name: "docker-registry",
    why: "a real registry to pull from",
    has: ["docker-registry"],
    for: ["test", "bench"],
    service: "docker-registry",
  },
  { name: "postgresql", why: "the second store", has: ["/usr/lib/postgresql"], for: tests, service: "postgresql" },
  {
    name: "mmdebstrap",
    why: "makes Debian images, and a root for libvirt",
    has: ["mmdebstrap"],
    for: ["test", "bench"],
  },
  { name: "musl-tools", why: "links programs for busybox images", has: ["musl-gcc"], for: tests },
  { name: "libsqlite3-dev", why: "a database in a guest", has: ["/usr/include/sqlite3.h"], for: tests },
  { name: "attr", why: "extended attributes in images", has: ["setfattr"], for: tests },
  { name: "zsh", why: "a shell whose completion is tried", has: ["zsh"], for: tests },
  { name: "fish", why: "a shell whose completion is tried", has: ["fish"], for: tests },
  { name: "libcap2-bin", why: "file capabilities in images", has: ["setcap"], for: tests },
];
