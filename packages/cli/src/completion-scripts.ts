/**
 * What `berth completion` prints. Each script hands the words before the cursor to the hidden `berth __complete`, which answers with a line for each proposal: the word,
 * a tab and what it is. Where there is none, the shell proposes files.
 */
export const completionScripts: Readonly<Record<string, string>> = {
  bash: String.raw`_berth() {
  local line words
  words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("\${line%%$'\t'*}")
  done < <(berth __complete -- "\${words[@]}" 2>/dev/null)
}
complete -o bashdefault -o default -F _berth berth
`.replaceAll("\\$", "$"),
  zsh: String.raw`#compdef berth
_berth() {
  local line
  local -a proposals
  while IFS= read -r line; do
    proposals+=("\${\${line%%$'\t'*}//:/\\:}:\${line#*$'\t'}")
  done < <(berth __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( \${#proposals} )); then
    _describe berth proposals
  else
    _files
  fi
}
if [ "\$funcstack[1]" = _berth ]; then
  _berth "\$@"
else
  compdef _berth berth
fi
`.replaceAll("\\$", "$"),
  fish: String.raw`function __berth_complete
    set -l words (commandline -opc)[2..-1] (commandline -ct)
    set -l proposals (berth __complete -- \$words 2>/dev/null)
    if set -q proposals[1]
        printf '%s\n' \$proposals
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c berth -f -a '(__berth_complete)'
`.replaceAll("\\$", "$"),
};
