import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { chown, mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import { reportSkipped } from './skipped.ts'
import { until } from './wait-until.ts'

/** A server of a test's own, in a folder of its own, which the test may kill. It is running. */
export interface OwnServer {
  url: string
  /** As `kill -9` does: what the server has not handed to the operating system is lost. */
  kill(): Promise<void>
  /** Starts it again on its data, and waits until it answers. */
  start(): Promise<void>
  remove(): Promise<void>
}

interface Kind {
  name: string
  programs: string[]
  /** Who runs it where the tests run as root, under whom it does not start. */
  account: string | null
  urlAt: (port: number) => string
  /** Throws when it does not. */
  answers: (url: string) => Promise<void>
}

type Command = [program: string, args: string[]]

interface Commands {
  makeData: ((folder: string) => Command) | null
  serve: (folder: string, port: number) => Command
}

const postgres = {
  name: 'PostgreSQL',
  account: 'postgres',
  urlAt: (port: number) => `postgres://postgres@127.0.0.1:${port}/postgres`,
  async answers(url: string) {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    await client.end()
  },
}

// Nobody cuts the power: what was handed to the operating system is safe.
const servePostgres = (folder: string, port: number, settings: string[]): Command => {
  const all = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off', ...settings]
  return ['postgres', ['-D', join(folder, 'data'), '-p', String(port), ...all.flatMap((set) => ['-c', set])]]
}

export const ownPostgres = kindOf({ ...postgres, programs: ['initdb', 'postgres'] }, (settings: string[] = []) => ({
  makeData: (folder) => ['initdb', ['-D', join(folder, 'data'), '-U', 'postgres', '-A', 'trust', '--no-sync']],
  serve: (folder, port) => servePostgres(folder, port, settings),
}))

/** A hot standby of the PostgreSQL server at `primaryUrl`, from which it copies and streams. */
export const ownStandby = kindOf({ ...postgres, programs: ['pg_basebackup', 'postgres'] }, (primaryUrl: string) => ({
  makeData: (folder) => [
    'pg_basebackup',
    ['-D', join(folder, 'data'), '-d', primaryUrl, '--write-recovery-conf', '--checkpoint=fast', '--no-sync'],
  ],
  // How soon it sees that it is to be promoted, where its primary is gone. Default: five seconds.
  serve: (folder, port) => servePostgres(folder, port, ['wal_retrieve_retry_interval=100ms']),
}))

export const ownMariadb = kindOf(
  {
    name: 'MariaDB',
    programs: ['mariadb-install-db', 'mariadbd'],
    account: 'mysql',
    urlAt: (port) => `mysql://root@127.0.0.1:${port}/test`,
    async answers(url) {
      const connection = await mysql.createConnection(url)
      await connection.end()
    },
  },
  () => ({
    makeData: (folder) => [
      'mariadb-install-db',
      ['--no-defaults', `--datadir=${join(folder, 'data')}`, '--auth-root-authentication-method=normal'],
    ],
    serve: (folder, port) => [
      'mariadbd',
      [
        '--no-defaults',
        `--datadir=${join(folder, 'data')}`,
        `--socket=${join(folder, 'socket')}`,
        `--port=${port}`,
        '--bind-address=127.0.0.1',
        // At each commit the log is handed to the operating system, and once a second to the disk.
        '--innodb-flush-log-at-trx-commit=2',
      ],
    ],
  }),
)

/** Keeps nothing: what was in it is gone when it is killed. */
export const ownRedis = kindOf(
  {
    name: 'Redis',
    programs: ['redis-server'],
    account: null,
    urlAt: (port) => `redis://127.0.0.1:${port}`,
    async answers(url) {
      const client = createClient({ url, socket: { reconnectStrategy: false } }).on('error', () => undefined)
      await client.connect()
      client.destroy()
    },
  },
  () => ({
    makeData: null,
    serve: (folder, port) => [
      'redis-server',
      ['--dir', folder, '--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no'],
    ],
  }),
)

/** @returns how to make such a server; null, loudly, where its programs are not on the machine */
function kindOf<Given extends unknown[]>(
  kind: Kind,
  commandsFor: (...given: Given) => Commands,
): ((...given: Given) => Promise<OwnServer>) | null {
  const missing = kind.programs.filter((program) => find(program) === null)
  if (missing.length === 0) return (...given) => make(kind, commandsFor(...given))
  reportSkipped(`no ${missing.join(', ')} on this machine: the tests that kill ${kind.name} are LEFT OUT`)
  return null
}

async function make({ name, account, urlAt, answers }: Kind, { makeData, serve }: Commands): Promise<OwnServer> {
  const folder = await mkdtemp(join(tmpdir(), 'totp-kit-server-'))
  const as = account !== null && process.getuid?.() === 0 ? await idsOf(account) : null
  if (as) await chown(folder, as.uid, as.gid)
  const port = await freePort()
  const url = urlAt(port)
  let child: ChildProcess | null = null
  let printed = ''
  const run = ([program, args]: Command): ChildProcess => {
    printed = ''
    const hear = (chunk: Buffer) => {
      printed += chunk.toString()
    }
    child = spawn(find(program) ?? program, args, { ...as, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout?.on('data', hear)
    child.stderr?.on('data', hear)
    return child
  }
  const isRunning = () => child !== null && child.exitCode === null && child.signalCode === null
  const atExit = () => void child?.kill('SIGKILL')
  process.once('exit', atExit)

  const server: OwnServer = {
    url,
    async kill() {
      if (child === null || !isRunning()) return
      const exited = once(child, 'exit')
      const connections = childrenOf(child.pid)
      child.kill('SIGKILL')
      for (const pid of connections) killProcess(pid)
      await exited
    },
    async start() {
      const isUp = async () => {
        // PostgreSQL refuses to start while a child of the one that was killed is still there.
        if (!isRunning()) run(serve(folder, port))
        return answers(url).then(
          () => true,
          () => false,
        )
      }
      await until(isUp, 50, 30_000).catch(() => {
        throw new Error(`${name} does not start: ${printed}`)
      })
    },
    async remove() {
      await server.kill()
      process.off('exit', atExit)
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
  try {
    const [exitCode] = makeData ? await once(run(makeData(folder)), 'close') : [0]
    if (exitCode !== 0) throw new Error(`${name} makes no data: ${printed}`)
    await server.start()
  } catch (error) {
    await server.remove()
    throw error
  }
  return server
}

/** PostgreSQL has a process per connection. Where the system does not list them, they find out a moment later. */
function childrenOf(pid: number | undefined): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** In the PATH, where system programs are, or where Debian puts PostgreSQL; the newest version. */
function find(program: string): string | null {
  const versioned = '/usr/lib/postgresql'
  const folders = [
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/sbin',
    '/usr/local/sbin',
    ...versions(versioned).map((version) => join(versioned, version, 'bin')),
  ]
  return folders.map((folder) => join(folder, program)).find(isExecutable) ?? null
}

function versions(folder: string): string[] {
  try {
    return readdirSync(folder).sort((a, b) => Number(b) - Number(a))
  } catch {
    return []
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

async function idsOf(account: string): Promise<{ uid: number; gid: number }> {
  const ask = async (flag: string) => Number((await promisify(execFile)('id', [flag, account])).stdout)
  return { uid: await ask('-u'), gid: await ask('-g') }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
