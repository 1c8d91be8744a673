/** The parent's side: starts what is to be measured, each process on a core of its own, and asks for its CPU time. */
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { generateFernetKey } from '../../dist/index.js'

const pinning = spawnSync('taskset', ['-c', '0', 'true']).status === 0
const cores = availableParallelism()
/** The last core makes the load; servers begin at the first. */
export const pinnedTo = { isPossible: pinning, load: cores - 1, server: (n) => n % cores }

const python = ['/usr/bin/python3', 'python3'].find(
  (command) =>
    spawnSync(command, [
      '-c',
      'import cryptography, django, gunicorn, psycopg2, pyotp, qrcode, rest_framework, rest_framework_simplejwt',
    ]).status === 0,
)

/** What a version of it is, or null when it is not there. */
export function djangoVersions() {
  if (python === undefined) return null
  const script =
    'import sys, cryptography, django, gunicorn, pyotp, rest_framework\n' +
    'print(f"Python {sys.version.split()[0]}, Django {django.get_version()}, REST framework {rest_framework.VERSION}, ' +
    'gunicorn {gunicorn.__version__}, cryptography {cryptography.__version__}")'
  return spawnSync(python, ['-c', script], { encoding: 'utf8' }).stdout.trim()
}

export const DJANGO_PACKAGES =
  'python3-django python3-djangorestframework python3-djangorestframework-simplejwt python3-pyotp ' +
  'python3-cryptography python3-qrcode python3-psycopg2 gunicorn'

/** `works`: what it does; `weight`: how many times dearer than totp-kit its requests are, about; `missing`: where not, and why. */
export const CONTENDERS = {
  'totp-kit': { works: ['login', 'backup', 'create', 'status', 'guarded'], weight: 1, start: startNode },
  limit: { works: ['login', 'backup', 'create', 'status', 'guarded'], weight: 1, start: startNode },
  'better-auth': { works: ['login', 'backup', 'create'], weight: 8, start: startNode, missing: {} },
  django: {
    works: ['login', 'backup', 'create', 'status'],
    weight: 8,
    start: startDjango,
    missing: {
      mariadb: 'Django runs on SQLite and PostgreSQL here',
      ...(python === undefined && {
        sqlite: `not installed: apt-get install ${DJANGO_PACKAGES}`,
        postgres: `not installed: apt-get install ${DJANGO_PACKAGES}`,
      }),
    },
  },
}

/** @param folder - of an earlier commit, built (`against.mjs`): its own `bench/http/totp-kit.mjs` is one more contender. */
export function addBefore(folder) {
  const script = `${folder}/bench/http/totp-kit.mjs`
  const start = (_name, database, count) => startNode('totp-kit', database, count, script)
  CONTENDERS.before = { works: ['login'], weight: 2, start, missing: { mariadb: 'compared on SQLite and PostgreSQL' } }
}

/** A child with questions and answers over IPC. */
export function ask(child) {
  const open = new Map()
  let last = 0
  child.on('message', ({ id, answer, error }) => {
    const { resolve, reject } = open.get(id) ?? {}
    open.delete(id)
    if (error === undefined) resolve?.(answer)
    else reject?.(new Error(error))
  })
  child.on('exit', (code, signal) => {
    for (const { reject } of open.values()) reject(new Error(`a process ended: ${signal ?? code}`))
    open.clear()
  })
  const wait = (id) => new Promise((resolve, reject) => open.set(id, { resolve, reject }))
  return {
    ready: wait(0),
    ask(question, rest = {}) {
      const answer = wait(++last)
      child.send({ id: last, ask: question, ...rest })
      return answer
    },
  }
}

export function spawnPinned(core, command, args, options) {
  return pinning ? spawn('taskset', ['-c', String(core), command, ...args], options) : spawn(command, args, options)
}

export function startLoad() {
  const child = spawnPinned(pinnedTo.load, process.execPath, [pathOf('load.mjs')], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  return { ...ask(child), stop: () => stop(child) }
}

/** @returns a started contender: processes in the order of their cores */
async function startNode(name, database, count, script = pathOf(`${name}.mjs`)) {
  const encryptionKey = generateFernetKey()
  const at = Math.floor(Date.now() / 1000)
  const processes = []
  for (let n = 0; n < count; n++) {
    const config = {
      server: name,
      database: { kind: database.kind, url: database.url },
      encryptionKey,
      at,
      first: n === 0,
    }
    const child = spawnPinned(
      pinnedTo.server(n),
      process.execPath,
      ['--expose-gc', ...(process.env.BENCH_NODE_OPTIONS?.split(' ') ?? []), script],
      {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        env: { ...process.env, NODE_ENV: 'production', BENCH_SERVER: JSON.stringify(config) },
      },
    )
    const talk = ask(child)
    await talk.ready
    processes.push({ child, ...talk, ports: await talk.ask('ports') })
  }
  return {
    host: name === 'better-auth' ? 'bench.test' : '127.0.0.1',
    portsOf: (adapter, used) => processes.slice(0, used).map(({ ports }) => ports[adapter]),
    async prepare(work, requests) {
      const { requests: ready, at } = await processes[0].ask('prepare', { work, count: requests })
      for (const other of processes.slice(1)) await other.ask('moveClock', { at })
      return ready
    },
    async cpu(used) {
      const each = await Promise.all(processes.slice(0, used).map((process) => process.ask('cpu')))
      return each.reduce((sum, microseconds) => sum + microseconds, 0)
    },
    profile: (step) => processes[0].ask(`${step}Profile`),
    stop: () => Promise.all(processes.map(({ child }) => stop(child))),
  }
}

/**
 * Each process a gunicorn of its own, with one worker that keeps connections open: four threads, on SQLite one, because
 * Django's transactions there are refused ("database is locked") when another thread writes between their read and write.
 */
async function startDjango(_name, database, count) {
  const url = database.kind === 'postgres' ? new URL(database.url) : null
  const env = {
    ...process.env,
    PYTHONDONTWRITEBYTECODE: '1',
    BENCH_SECRET: generateFernetKey(),
    BENCH_DATABASE: database.kind,
    BENCH_URL: database.url,
    ...(url && {
      BENCH_NAME: url.pathname.slice(1),
      BENCH_HOST: url.hostname,
      BENCH_PORT: url.port || '5432',
      BENCH_USER: decodeURIComponent(url.username),
      BENCH_PASSWORD: decodeURIComponent(url.password),
    }),
  }
  const options = { cwd: pathOf('../django'), env, stdio: ['ignore', 'inherit', 'inherit'] }
  const tables = spawnSync(python, ['make_tables.py'], options)
  if (tables.status !== 0) throw new Error('Django could not make its tables')
  const servers = []
  for (let n = 0; n < count; n++) {
    const port = await freePort()
    const threads = database.kind === 'sqlite' ? 1 : 4
    const gunicorn = `-m gunicorn --workers 1 --worker-class gthread --threads ${threads} --keep-alive 120 --timeout 300`
    const args = [...gunicorn.split(' '), '--log-level', 'warning', '--bind', `127.0.0.1:${port}`, 'wsgi']
    servers.push({ port, child: spawnPinned(pinnedTo.server(n), python, args, options) })
  }
  const prepare = (work, requests) => askDjango(servers[0].port, { work, count: requests })
  for (let tries = 100; ; tries--) {
    try {
      await prepare('login', 1)
      break
    } catch (error) {
      if (tries === 0) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  return {
    host: '127.0.0.1',
    portsOf: (_adapter, used) => servers.slice(0, used).map(({ port }) => port),
    prepare,
    cpu: async (used) =>
      servers
        .slice(0, used)
        .reduce((sum, { child }) => sum + cpuOf(child.pid) + sumOf(childrenOf(child.pid), cpuOf), 0),
    stop: () => Promise.all(servers.map(({ child }) => stop(child))),
  }
}

async function askDjango(port, asked) {
  const response = await fetch(`http://127.0.0.1:${port}/bench/prepare/`, {
    method: 'POST',
    body: JSON.stringify(asked),
  })
  if (!response.ok) throw new Error(`Django: ${response.status} ${(await response.text()).slice(0, 500)}`)
  return (await response.json()).requests
}

/** Microseconds on a core, over all threads: `/proc/PID/task/TID/schedstat` counts nanoseconds. */
function cpuOf(pid) {
  const nanoseconds = sumOf(readdirSync(`/proc/${pid}/task`), (thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
  )
  return nanoseconds / 1000
}

function childrenOf(pid) {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
}

const sumOf = (list, numberOf) => list.reduce((sum, item) => sum + numberOf(item), 0)

function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  return new Promise((resolve) => {
    child.once('exit', resolve)
    if (child.connected) child.disconnect()
    else child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGKILL'), 5000).unref()
  })
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

function pathOf(file) {
  return fileURLToPath(new URL(file, import.meta.url))
}
