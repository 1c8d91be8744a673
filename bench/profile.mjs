/**
 * Where the CPU time of a request goes, totp-kit beside the limit: `npm run bench:profile -- login postgres`. Prints the
 * microseconds of each area, and writes profiles/*.cpuprofile, whose flame graph any browser's tools show.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { makeDatabase } from './databases.mjs'
import { CONTENDERS, startLoad } from './http/contenders.mjs'
import { progress } from './measure.mjs'

const [work = 'login', kind = 'postgres'] = process.argv.slice(2)
const WARM = 3000
const ROUNDS = 6
const REQUESTS = 1000

/** The first that matches the script's address, or the function's name where there is none. */
const AREAS = [
  ['collecting garbage', /^\(garbage/],
  ['waiting', /^\(idle\)/],
  ['outside JavaScript', /^[^/:]*$/],
  ['driver', /\/node_modules\/(pg|postgres|libsql|mysql2|@neon-rs|@libsql)|^node:sqlite/],
  ['zod', /\/node_modules\/zod\//],
  ['qr', /\/node_modules\/qr\//],
  ['node: crypto', /^node:internal\/crypto/],
  ['node: http', /^node:(_http|internal\/http)/],
  ['node: everything else', /^node:/],
  ['totp-kit: store', /\/dist\/store\//],
  ['totp-kit: everything else', /\/dist\//],
  ['the handler of the limit', /\/bench\//],
]

const folder = new URL('profiles/', import.meta.url)
mkdirSync(folder, { recursive: true })
const load = startLoad()
await load.ready
const tables = {}
for (const name of ['totp-kit', 'limit']) {
  const database = await makeDatabase(kind)
  const server = await CONTENDERS[name].start(name, database, 1)
  try {
    await run(server, WARM)
    const areas = {}
    const functions = {}
    let microseconds = 0
    for (let round = 0; round < ROUNDS; round++) {
      const { profile, cpu } = await run(server, REQUESTS, true)
      microseconds += cpu / ROUNDS
      tally(profile, areas, functions)
      if (round === 0) writeFileSync(new URL(`${name}-${work}-${kind}.cpuprofile`, folder), JSON.stringify(profile))
      progress(`${name}: round ${round + 1} of ${ROUNDS}`)
    }
    tables[name] = { areas, functions, microseconds }
  } finally {
    await server.stop()
    await database.drop()
  }
}
await load.stop()

const [ours, limit] = [tables['totp-kit'], tables.limit]
const shown = (microseconds = 0) => (microseconds / (ROUNDS * REQUESTS)).toFixed(1).padStart(8)
console.log(`\n${work} on ${kind}: µs of CPU a request, by sampling; the sampling itself is in them\n`)
console.log(`totp-kit    limit  difference`)
for (const [area] of AREAS.filter(([area]) => area !== 'waiting')) {
  const [a = 0, b = 0] = [ours.areas[area], limit.areas[area]]
  if (a + b > 0) console.log(`${shown(a)} ${shown(b)}    ${shown(a - b)}  ${area}`)
}
console.log(`\n${ours.microseconds.toFixed(0)} and ${limit.microseconds.toFixed(0)} µs by the process's own clock`)
console.log('\nThe functions that cost most beyond the limit:\n')
const beyond = Object.entries(ours.functions).map(([name, cost]) => [name, cost - (limit.functions[name] ?? 0)])
for (const [name, cost] of beyond.sort(([, a], [, b]) => b - a).slice(0, 40)) console.log(`${shown(cost)}  ${name}`)

async function run(server, count, isProfiled = false) {
  const requests = await server.prepare(work, count)
  await load.ask('open', { ports: server.portsOf('node', 1), requests, connections: 16, host: server.host })
  if (isProfiled) await server.profile('start')
  const before = await server.cpu(1)
  await load.ask('go')
  const cpu = ((await server.cpu(1)) - before) / count
  return { cpu, profile: isProfiled ? await server.profile('stop') : null }
}

/** Adds the time that each function itself took. */
function tally({ nodes, samples, timeDeltas }, areas, functions) {
  const byId = new Map(nodes.map((node) => [node.id, node.callFrame]))
  for (const [index, id] of samples.entries()) {
    const { functionName, url, lineNumber } = byId.get(id)
    const from = url === '' ? functionName : url
    const [area] = AREAS.find(([, pattern]) => pattern.test(from)) ?? ['outside JavaScript']
    areas[area] = (areas[area] ?? 0) + timeDeltas[index]
    const place = url.replace(/^.*\/(node_modules|dist)\//, '')
    const name = `${functionName || '(anonymous)'} ${place}:${lineNumber + 1}`
    if (area !== 'waiting') functions[name] = (functions[name] ?? 0) + timeDeltas[index]
  }
}
