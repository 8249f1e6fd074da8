// Draws small pictures: enough of PNG for previews and results of the mock.

import { crc32, deflateSync } from "node:zlib";

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body) >>> 0, body.length + 4);
  return out;
}

/** Hills under a sky, seeded; `blur` 0 to 1 makes it look unfinished. */
export function landscape(seed, size = 256, blur = 0) {
  const hue = (seed * 47) % 360;
  const rows = Buffer.alloc((size * 3 + 1) * size);
  const block = Math.max(1, Math.round(blur * 24));
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const [u, v] = [Math.floor(x / block) * block / size, Math.floor(y / block) * block / size];
      const noise = blur * (((x * 7349 + y * 9151 + seed * 31) % 97) / 97 - 0.5) * 0.35;
      rows.set(colour(u, v, hue, seed, noise), y * (size * 3 + 1) + 1 + x * 3);
    }
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(size, 0);
  head.writeUInt32BE(size, 4);
  head.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0)),
  ]);
}

function colour(u, v, hue, seed, noise) {
  const sun = Math.hypot(u - 0.68, v - 0.3) < 0.1;
  for (let hill = 3; hill >= 1; hill -= 1) {
    const ridge = 0.42 + hill * 0.14 + 0.09 * Math.sin(u * (3 + hill) + seed + hill * 2.1);
    if (v > ridge) return hsl(hue + 20 * hill, 0.35, 0.5 - hill * 0.11 + noise);
  }
  return sun ? hsl(hue + 180, 0.9, 0.8 + noise) : hsl(hue + 160 - v * 60, 0.5, 0.85 - v * 0.5 + noise);
}

function hsl(h, s, l) {
  const a = s * Math.min(Math.max(l, 0), 1 - Math.min(l, 1));
  return [0, 8, 4].map((n) => {
    const k = (n + (((h % 360) + 360) % 360) / 30) % 12;
    return Math.max(0, Math.min(255, Math.round(255 * (l - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))))));
  });
}
