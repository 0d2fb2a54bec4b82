/** Long enough, and yet the first that anybody would try. */
const common = new Set([
  "passwordpassword",
  "password12345",
  "password123456",
  "1234567890123456",
  "123456789012",
  "qwertyuiopasdf",
  "qwertyqwerty",
  "administrator",
  "changemechangeme",
  "letmeinletmein",
  "welcomewelcome",
  "iloveyouiloveyou",
]);

const minLength = 12;

/** Why a password is no good, in words for who chose it; undefined when it is. After NIST SP 800-63B: length is what counts, and no kinds of characters are asked for. */
export function whyWeak(password: string, userName: string): string | undefined {
  const text = password.normalize("NFKC").toLowerCase();
  if ([...text].length < minLength) return `It has less than ${minLength} characters.`;
  if (new Set(text).size < 5) return "It has less than five different characters.";
  if (text.replaceAll(userName, "").length < minLength / 2) return "It is little more than the user's name.";
  if (common.has(text) || isRun(text)) return "It is one of those that everybody tries first.";
  return undefined;
}

/** Whether the characters follow one another by their numbers: `abcdefghijkl`. */
function isRun(text: string): boolean {
  const codes = [...text].map((character) => character.codePointAt(0) ?? 0);
  const steps = new Set(codes.slice(1).map((code, at) => code - (codes[at] ?? 0)));
  return steps.size === 1;
}
