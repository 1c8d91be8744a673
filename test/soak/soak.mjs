// Mixed load on several processes that share one database, while its connections are cut. Ends with 1 when anything was
// uncaught, an answer was wrong, memory grew, or the database is not whole.
//
//   npm run soak -- --database postgres --minutes 60 --cut-every 3000
//   npm run soak -- --database mysql --cuts 3000 --cut-every 20
import { fork } from 'node:child_process'
import { parseArgs } from 'node:util'
import { generateFernetKey } from 'totp-kit'
import { cutOne, openAdmin, openDatabase, tornIn } from './databases.mjs'
import { person } from './person.mjs'

const { values: given } = parseArgs({
  options: {
    database: { type: 'string', default: 'postgres' },
    minutes: { type: 'string', default: '0' },
    cuts: { type: 'string', default: '0' },
    'cut-every': { type: 'string', default: '3000' },
    processes: { type: 'string', default: '4' },
    people: { type: 'string', default: '16' },
    pause: { type: 'string', default: '0' },
  },
})
const [minutes, cuts, cutEvery, processes, people, pause] = [
  given.minutes,
  given.cuts,
  given['cut-every'],
  given.processes,
  given.people,
  given.pause,
].map(Number)

const base = {
  postgres: process.env.TEST_POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/test',
  mysql: process.env.TEST_MYSQL_URL ?? 'mysql://root@127.0.0.1:3306/test',
}[given.database]
const name = `totp_soak_${process.pid}`
const owner = await openAdmin(base)
await owner.all(`CREATE DATABASE ${name}`)
const url = new URL(base)
url.pathname = `/${name}`
const { store, end } = await openDatabase(url.href)
await store.migrate()
await end()
const admin = await openAdmin(url.href)

const epoch = Math.floor(Date.now() / 1000)
const speed = 30
const clock = () => epoch + Math.floor(((Date.now() - epoch * 1000) / 1000) * speed)
const tally = { answer: {}, done: {}, wrong: [], uncaught: [], failed: 0, cuts: 0 }
const say = (what, which) => {
  if (Array.isArray(tally[what])) tally[what].push(which)
  else tally[what][which] = (tally[what][which] ?? 0) + 1
}
const links = new Map()
/** The next recovery link of a user; null when none comes within two seconds. */
const linkOf = (id) =>
  new Promise((resolve) => {
    links.set(id, resolve)
    setTimeout(() => resolve(null), 2000)
  })

const config = JSON.stringify({ url: url.href, encryptionKey: generateFernetKey(), epoch, speed })
const children = []
for (let n = 0; n < processes; n++) {
  const child = fork(new URL('server.mjs', import.meta.url), [config], { execArgv: ['--expose-gc'] })
  child.heaps = []
  child.ready = new Promise((resolve) => {
    child.on('message', ({ port, uncaught, failed, link, userId, heap }) => {
      if (port) resolve(port)
      if (uncaught) tally.uncaught.push(uncaught)
      if (failed) tally.failed++
      if (link) links.get(userId)?.(link)
      if (heap) child.heaps.push(heap)
    })
  })
  child.ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)))
  child.ended.then((code) => code !== 0 && tally.uncaught.push(`a process ended with ${code}`))
  children.push(child)
}
const servers = await Promise.all(children.map((child) => child.ready))

const start = Date.now()
let isOver = false
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))
const cutting = (async () => {
  while (!isOver) {
    await sleep(cutEvery)
    if (await cutOne(admin, url.href)) tally.cuts++
    if (cuts > 0 && tally.cuts >= cuts) isOver = true
    if (cuts === 0 && Date.now() - start >= minutes * 60_000) isOver = true
  }
})()
const sampling = (async () => {
  const every = Math.min(60_000, Math.max(2000, minutes * 60_000 * 0.05))
  while (!isOver) {
    await sleep(every)
    for (const child of children) if (child.connected) child.send('memory')
    const seconds = Math.round((Date.now() - start) / 1000)
    const answers = Object.values(tally.answer).reduce((sum, n) => sum + n, 0)
    const heap = children.map(({ heaps }) => ((heaps.at(-1) ?? 0) / 1e6).toFixed(1)).join(' ')
    console.log(
      `${seconds} s: ${answers} answers, ${tally.cuts} cuts, ${tally.uncaught.length} uncaught, ${tally.wrong.length} wrong, heap ${heap} MB`,
    )
  }
})()
const living = Array.from({ length: people }, async (_, n) => {
  const someone = person(`user-${n}`, { servers, clock, say, linkOf })
  while (!isOver) {
    await someone.act().catch((error) => say('wrong', `user-${n}: ${error.stack}`))
    if (pause > 0) await sleep(pause * Math.random() * 2)
  }
})
await Promise.all([cutting, ...living])
await sampling
for (const child of children) if (child.connected) child.send('end')
await Promise.all(children.map((child) => child.ended))

const torn = await tornIn(admin)
await admin.end()
await owner.all(`DROP DATABASE ${name}${given.database === 'postgres' ? ' WITH (FORCE)' : ''}`)
await owner.end()

/** The median of the last third against that of the first third, after a start in which caches fill. */
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]
const growth = children.map(({ heaps }) => {
  const settled = heaps.slice(Math.ceil(heaps.length * 0.1))
  const third = Math.floor(settled.length / 3)
  return third < 3 ? null : median(settled.slice(-third)) / median(settled.slice(0, third))
})
console.log(`answers by status: ${JSON.stringify(tally.answer)}`)
console.log(`done: ${JSON.stringify(tally.done)}; errors reported by the service: ${tally.failed}`)
console.log(
  `connections cut: ${tally.cuts}; uncaught errors: ${tally.uncaught.length}; wrong answers: ${tally.wrong.length}`,
)
console.log(
  `heap, last third against first: ${growth.map((part) => (part === null ? '–' : part.toFixed(2))).join(', ')}`,
)
console.log(torn.length === 0 ? 'the database is whole' : `the database is TORN: ${torn.join('; ')}`)
for (const line of [...tally.uncaught, ...tally.wrong].slice(0, 10)) console.error(line)
const grew = growth.some((part) => part !== null && part > 1.15)
process.exitCode = tally.uncaught.length + tally.wrong.length + torn.length > 0 || grew ? 1 : 0
