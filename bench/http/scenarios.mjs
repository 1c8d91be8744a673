/** End to end: what a request costs the server, contender after contender in each round. */
import { makeDatabase, serverVersion } from '../databases.mjs'
import { progress } from '../measure.mjs'
import { CONTENDERS, startLoad } from './contenders.mjs'

const OURS = ['totp-kit', 'limit']
const BEFORE = ['totp-kit', 'before']
const CONNECTIONS = 16

/**
 * `requests`: of totp-kit and the limit in each round, the dearer contenders get a part of them; `warm`: rounds before the first
 * measured one of a server, and a quarter of them before each further scenario: so many until the engine has compiled it
 */
const SIZES = {
  full: { rounds: 5, requests: 250, warm: 8 },
  short: { rounds: 3, requests: 150, warm: 6 },
}

function scenariosFor(database, isShort) {
  const scenario = (work, more = {}) => ({
    database,
    work,
    adapter: 'node',
    processes: 1,
    connections: CONNECTIONS,
    contenders: Object.keys(CONTENDERS),
    ...more,
  })
  const works = isShort && database === 'mariadb' ? ['login'] : ['login', 'backup', 'create', 'status', 'guarded']
  const main = works.map((work) => scenario(work))
  if (database === 'mariadb') return main
  const alone = scenario('login', { connections: 1, contenders: [...BEFORE, 'limit'] })
  if (isShort) return [...main, alone]
  // A full cross product would take an hour: each thing is varied where it says most.
  const adapters = ['fetch', 'express'].map((adapter) => scenario('login', { adapter, contenders: OURS }))
  return [
    ...main,
    alone,
    scenario('login', { connections: 64, contenders: [...BEFORE, 'limit'] }),
    ...(database === 'sqlite' ? adapters : []),
    scenario('login', { processes: 2 }),
  ]
}

/** @returns `rows`: a scenario, and for each contender its rounds; `absent`: who could not take part, and why */
export async function measureHttp({ isShort }) {
  const rows = []
  const absent = []
  const load = startLoad()
  await load.ready
  try {
    for (const kind of ['sqlite', 'postgres', 'mariadb']) {
      if (kind !== 'sqlite' && (await serverVersion(kind)) === null) {
        absent.push({ database: kind, contender: 'all', reason: 'no server answers' })
        continue
      }
      await measureDatabase({ kind, isShort, load, rows, absent })
    }
  } finally {
    await load.stop()
  }
  return { rows, absent }
}

async function measureDatabase({ kind, isShort, load, rows, absent }) {
  const size = isShort ? SIZES.short : SIZES.full
  const running = new Map()
  const databases = []
  try {
    for (const [name, { start, missing }] of Object.entries(CONTENDERS)) {
      const reason = missing?.[kind]
      if (reason) {
        absent.push({ database: kind, contender: name, reason })
        continue
      }
      progress(`${kind}: starting ${name}`)
      const database = await makeDatabase(kind)
      databases.push(database)
      try {
        running.set(name, await start(name, database, 2))
      } catch (error) {
        absent.push({ database: kind, contender: name, reason: String(error?.message ?? error).split('\n')[0] })
      }
    }
    for (const scenario of scenariosFor(kind, isShort)) {
      rows.push(await measureScenario({ scenario, size, load, running, absent }))
    }
  } finally {
    await Promise.all([...running.values()].map((contender) => contender.stop()))
    for (const database of databases) await database.drop()
  }
}

async function measureScenario({ scenario, size, load, running, absent }) {
  const { work, adapter, processes, connections } = scenario
  const taking = scenario.contenders.filter((name) => running.has(name) && CONTENDERS[name].works.includes(work))
  const results = Object.fromEntries(taking.map((name) => [name, []]))
  const name = `${scenario.database}, ${work}, ${adapter}, ${processes} process(es), ${connections} connections`
  for (let round = -1; round < size.rounds; round++) {
    for (const contender of [...taking]) {
      try {
        const { weight } = CONTENDERS[contender]
        const requests = Math.ceil((size.requests * 2) / (1 + weight))
        const one = () => oneRound({ contender, server: running.get(contender), load, scenario, requests })
        for (let more = round < 0 ? warmRounds(`${scenario.database} ${contender}`, size) : 1; more > 1; more--)
          await one()
        const measured = await one()
        if (round >= 0) results[contender].push(measured)
      } catch (error) {
        taking.splice(taking.indexOf(contender), 1)
        delete results[contender]
        absent.push({
          database: scenario.database,
          contender,
          reason: `${name}: ${String(error.message).slice(0, 300)}`,
        })
      }
    }
    progress(`${name}: ${round < 0 ? 'warm' : `round ${round + 1} of ${size.rounds}`}`)
  }
  return { ...scenario, results }
}

const isWarm = new Set()

function warmRounds(server, { warm }) {
  const first = !isWarm.has(server)
  isWarm.add(server)
  return first ? warm : warm / 4
}

async function oneRound({ contender, server, load, scenario, requests }) {
  const { work, adapter, processes, connections } = scenario
  const ready = await server.prepare(work, requests)
  const ports = server.portsOf(contender === 'totp-kit' ? adapter : 'node', processes)
  await load.ask('open', { ports, requests: ready, connections, host: server.host })
  const before = await server.cpu(processes)
  const { seconds, p50, p99, statuses } = await load.ask('go')
  const after = await server.cpu(processes)
  for (const [status, { count, example }] of Object.entries(statuses)) {
    if (!status.startsWith('2')) throw new Error(`${count} of ${ready.length} answers were ${status}: ${example}`)
  }
  return { cpu: (after - before) / ready.length, perSecond: ready.length / seconds, p50, p99 }
}
