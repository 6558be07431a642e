'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');
const { spawn, execFileSync } = require('child_process');
const zlib = require('zlib');
const fs = require('fs');
const net = require('net');

function primes(from, to) {
  let n = 0, sum = 0;
  outer: for (let i = Math.max(2, from); i < to; i++) {
    for (let k = 2; k * k <= i; k++) if (i % k === 0) continue outer;
    n++; sum = (sum + i * n) % 1000000007;
  }
  return [n, sum];
}

if (!isMainThread) {
  for (const [from, to] of workerData) parentPort.postMessage([from, ...primes(from, to)]);
} else {
  main().catch((e) => { console.error(e); process.exit(1); });
}

const nap = (ms) => new Promise((r) => setTimeout(r, ms));

async function main() {
  const parts = [...Array(24).keys()].map((i) => [i * 60000, (i + 1) * 60000]);
  const found = new Map();
  const workers = [0, 1, 2].map((w) => new Promise((resolve, reject) => {
    const t = new Worker(__filename, { workerData: parts.filter((_, i) => i % 3 === w) });
    t.on('message', ([from, n, sum]) => found.set(from, [n, sum]));
    t.on('error', reject);
    t.on('exit', resolve);
  }));
  let ticks = 0;
  const timer = setInterval(() => ticks++, 10);
  const echo = net.createServer((c) => c.pipe(c));
  await new Promise((r) => echo.listen('echo.sock', r));
  const talk = net.connect('echo.sock');
  let got = '';
  talk.on('data', (d) => { got += d; });
  for (let round = 0; round < 15; round++) {
    const objects = [];
    for (let i = 0; i < 60000; i++) objects.push({ i, s: String(i * 7919 % 10007), next: objects[i - 1] });
    objects.sort((a, b) => (a.s < b.s ? -1 : a.s > b.s ? 1 : a.i - b.i));
    const text = objects.map((o) => o.s + o.i).join(',');
    const packed = await new Promise((r, j) => zlib.gzip(text, (e, b) => (e ? j(e) : r(b))));
    fs.writeFileSync('f' + round, packed);
    const back = zlib.gunzipSync(await fs.promises.readFile('f' + round)).toString();
    talk.write('round ' + round + ';');
    console.log(round, createHash('sha256').update(text).digest('hex'), back === text);
    const child = spawn('sh', ['-c', 'cat; exit ' + round], { stdio: ['pipe', 'pipe', 'inherit'] });
    let said = '';
    child.stdout.on('data', (d) => { said += d; });
    child.stdin.end('to the child ' + round);
    const status = await new Promise((r) => child.on('close', r));
    console.log(said, status, execFileSync('basename', ['/a/b' + round]).toString().trim());
    await nap(50);
  }
  await Promise.all(workers);
  await nap(20);
  clearInterval(timer);
  talk.end();
  echo.close();
  for (const [from] of parts) console.log(from, ...found.get(from));
  console.log(got, ticks > 10);
}
