/** Draws a call tree as a flame graph, in an SVG file that needs nothing else. */
import { type Frame, ownerOf } from './cpu-profile.js';

const WIDTH = 1600;
const ROW_HEIGHT = 17;
const CHARACTER_WIDTH = 6.6;
/** Narrower frames are left out. */
const LEAST_WIDTH = 0.3;
const HUES: Record<string, number> = { native: 0, 'Node.js': 120, amqplib: 30, yup: 280, winston: 330 };
const OWN_HUE = 210;
const OTHER_HUE = 60;

/**
 * The width of a frame is its time; above it are the functions that it called. A frame's title has its place and times.
 * @param requests how many requests were served meanwhile
 */
export function flameGraph(root: Frame, requests: number): string {
  const scale = WIDTH / root.totalMicros;
  const rows: string[][] = [];
  const draw = (frame: Frame, x: number, depth: number): void => {
    const width = frame.totalMicros * scale;
    if (width < LEAST_WIDTH) return;
    (rows[depth] ??= []).push(rectangle(frame, x, width, requests));
    let at = x;
    for (const callee of frame.callees.toSorted((a, b) => b.totalMicros - a.totalMicros)) {
      draw(callee, at, depth + 1);
      at += callee.totalMicros * scale;
    }
  };
  draw(root, 0, 0);
  const height = rows.length * ROW_HEIGHT;
  const groups = rows.map(
    (row, depth) => `<g transform="translate(0 ${height - (depth + 1) * ROW_HEIGHT})">${row.join('')}</g>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="monospace" font-size="11">
<style>rect { stroke: white; stroke-width: 0.5 } g g:hover rect { stroke: black }</style>
${groups.join('\n')}
</svg>
`;
}

function rectangle(frame: Frame, x: number, width: number, requests: number): string {
  const characters = Math.floor((width - 4) / CHARACTER_WIDTH);
  const label = characters < 3 ? '' : frame.name.slice(0, characters);
  const micros = (time: number) => (time / requests).toFixed(2);
  const title = `${frame.name} (${frame.place}): ${micros(frame.totalMicros)} us a request, ${micros(frame.selfMicros)} in itself`;
  return (
    `<g transform="translate(${x.toFixed(1)})"><title>${escaped(title)}</title>` +
    `<rect width="${width.toFixed(1)}" height="${ROW_HEIGHT}" fill="${colour(frame)}"/>` +
    `${label === '' ? '' : `<text x="2" y="12">${escaped(label)}</text>`}</g>`
  );
}

function colour({ place }: Frame): string {
  const owner = ownerOf(place);
  const hue = owner.startsWith('src/') ? OWN_HUE : (HUES[owner] ?? OTHER_HUE);
  return `hsl(${hue} 70% 75%)`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
