import { print } from '../output.js';

/** The shells that there are scripts for. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/**
 * A line of `complete` is a word, a tab, and what it is about; `:files` stands for the names of files. A word that ends in `=` goes
 * on without a space.
 */
const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: String.raw`# bash completion of fleet-manager; in ~/.bashrc: source <(fleet-manager completion bash)
_fleet_manager() {
  # Bash splits words at characters such as = and @. Those that stand together on the line are one word.
  local -a words=()
  local i line=$COMP_LINE word
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=${'$'}{COMP_WORDS[i]}
    if ((i > 0)) && [[ $line == [[:space:]]* ]]; then
      words+=("$word")
    elif ((i == 0)); then
      words=("$word")
    else
      words[${'$'}{#words[@]} - 1]+=$word
    fi
    line=${'$'}{line#"${'$'}{line%%[![:space:]]*}"}
    line=${'$'}{line#"$word"}
  done
  local current=${'$'}{words[${'$'}{#words[@]} - 1]}
  # Bash replaces only what follows the last of its own separators.
  local kept=${'$'}{current%"${'$'}{COMP_WORDS[COMP_CWORD]}"}
  if [[ ${'$'}{COMP_WORDS[COMP_CWORD]} == [=:@] ]]; then kept=$current; fi
  COMPREPLY=()
  local value
  while IFS=$'\t' read -r value _; do
    if [[ $value == :files ]]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -- "${'$'}{current#"$kept"}")
    elif [[ $value == "$current"* ]]; then
      if [[ $value == *= ]]; then compopt -o nospace 2>/dev/null; fi
      COMPREPLY+=("$(printf '%q' "${'$'}{value#"$kept"}")")
    fi
  done < <(fleet-manager complete -- "${'$'}{words[@]:1}" 2>/dev/null)
}
complete -F _fleet_manager fleet-manager
`,
  zsh: String.raw`#compdef fleet-manager
# zsh completion of fleet-manager; in ~/.zshrc, after compinit: source <(fleet-manager completion zsh)
_fleet_manager() {
  local -a values shown open opened
  local value about files
  while IFS=$'\t' read -r value about; do
    if [[ $value == :files ]]; then
      files=1
    elif [[ $value == *= ]]; then
      open+=("$value")
      opened+=("$value${'$'}{about:+  -- $about}")
    else
      values+=("$value")
      shown+=("$value${'$'}{about:+  -- $about}")
    fi
  done < <(fleet-manager complete -- "${'$'}{(@Q)words[2,CURRENT]}" 2>/dev/null)
  if [[ -n $files ]]; then _files; fi
  compadd -l -d shown -a values
  compadd -l -S '' -d opened -a open
}
if [[ $funcstack[1] == _fleet_manager ]]; then
  _fleet_manager "$@"
else
  compdef _fleet_manager fleet-manager
fi
`,
  fish: String.raw`# fish completion of fleet-manager; fleet-manager completion fish > ~/.config/fish/completions/fleet-manager.fish
function __fleet_manager_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (fleet-manager complete -- $words[2..-1] 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            printf '%s\n' $line
        end
    end
end
complete -c fleet-manager -e
complete -c fleet-manager -f -a '(__fleet_manager_complete)'
`,
};

/** Prints the script that makes a shell complete the commands of `fleet-manager`. */
export function completion(shell: Shell): number {
  print(SCRIPTS[shell]);
  return 0;
}
