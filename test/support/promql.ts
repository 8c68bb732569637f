/** What an expression of PromQL names. */
export interface Named {
  /** The metrics, each with the labels that its matchers name. */
  metrics: { name: string; labels: string[] }[];
  /** The labels by which results are grouped or matched. */
  groupings: string[];
}

const WORDS: ReadonlySet<string> = new Set([
  'and',
  'or',
  'unless',
  'bool',
  'offset',
  'group_left',
  'group_right',
]);

/** The names in an expression, such as one of a Grafana dashboard or of an alert. It knows the PromQL that this repository uses. */
export function namesIn(expression: string): Named {
  const groupings: string[] = [];
  const metrics: Named['metrics'] = [];
  const rest = expression
    .replace(/"(?:[^"\\]|\\.)*"/g, '""')
    .replace(/\[[^\]]*\]/g, ' ')
    .replace(/\boffset\s+\d+[smhdwy]/g, ' ')
    .replace(/\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g, (_all, _word, list) => {
      groupings.push(...words(String(list)));
      return ' ';
    })
    .replace(/([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}/g, (_all, name, matchers) => {
      const labels = [...String(matchers).matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = '']) => label);
      metrics.push({ name: String(name), labels });
      return ' ';
    });
  for (const [, name = '', call] of rest.matchAll(/(?<![\w.])([a-zA-Z_:][\w:]*)\s*(\()?/g))
    if (call === undefined && !WORDS.has(name)) metrics.push({ name, labels: [] });
  return { metrics, groupings };
}

function words(text: string): string[] {
  return text
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '');
}
