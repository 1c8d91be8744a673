import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { authenticatorFor } from 'totp-kit/testing'

const SERVER = new URL('../../dist-demo/server.js', import.meta.url).pathname

/** The demo server, as `npm start` runs it, in a process and a folder of its own. */
export interface Demo {
  url: string
  /** It was started here. */
  folder: string
  databasePath: string
  /** Everything that the server has printed so far. */
  printed: () => string
  call: (method: 'GET' | 'POST', path: string, options?: CallOptions) => Promise<Answer>
  /** Sends SIGTERM and gives the exit code. */
  stop: () => Promise<number | null>
  remove: () => Promise<void>
}

interface CallOptions {
  body?: unknown
  bearer?: string
  /** `close`: a connection for this call only, so that of several processes each next call gets to the next one. */
  connection?: 'close'
}

export interface Answer {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: a test reads whatever members it expects
  body: any
}

/** Starts the server and waits until it prints its URL. */
export async function startDemo(env: Record<string, string> = {}): Promise<Demo> {
  const folder = await mkdtemp(join(tmpdir(), 'totp-kit-demo-'))
  const databasePath = join(folder, 'demo.sqlite3')
  const common = { PORT: '0', DATABASE_URL: `sqlite:${databasePath}`, TOTP_THROTTLE_RATE: 'off' }
  const child = spawnDemo({ ...common, ...env }, folder)
  let output = ''
  const url = await new Promise<string>((resolve, reject) => {
    const hear = (chunk: Buffer) => {
      output += chunk.toString()
      const [, printed] = /^totp-kit demo: (http\S+)\/$/m.exec(output) ?? []
      if (printed) resolve(printed)
    }
    child.stdout?.on('data', hear)
    child.stderr?.on('data', hear)
    child.once('exit', (code) => reject(new Error(`the demo stopped with ${code}: ${output}`)))
  }).catch(async (error) => {
    await rm(folder, { recursive: true })
    throw error
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  return {
    url,
    folder,
    databasePath,
    printed: () => output,
    call: (method, path, options) => call(url + path, method, options),
    async stop() {
      child.kill('SIGTERM')
      return exited
    },
    async remove() {
      child.kill('SIGKILL')
      await exited
      // Workers end a moment after the process that led them, and may be writing a mail until then.
      await rm(folder, { recursive: true, force: true, maxRetries: 10 })
    },
  }
}

/** Starts the server with only these variables, and does not wait. */
export function spawnDemo(env: Record<string, string>, folder?: string): ChildProcess {
  return spawn(process.execPath, [SERVER], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: 'pipe',
    ...(folder !== undefined && { cwd: folder }),
  })
}

async function call(url: string, method: string, { body, bearer, connection }: CallOptions = {}): Promise<Answer> {
  const response = await fetch(url, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(connection === undefined ? {} : { connection }),
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text === '' ? null : JSON.parse(text) }
}

/** A registered user with a password-only log-in. */
export async function registered(demo: Demo, username: string) {
  const password = `correct horse of ${username}`
  await demo.call('POST', '/api/register', { body: { username, email: `${username}@example.com`, password } })
  const { body } = await demo.call('POST', '/api/jwt/create/', { body: { username, password } })
  return { username, password, access: body.access as string, refresh: body.refresh as string }
}

/** A user with 2FA on. The phone's next code that is good for a log-in is that of the next time step. */
export async function enrolled(demo: Demo, username: string) {
  const user = await registered(demo, username)
  const setup = await demo.call('POST', '/api/totp/create/', { bearer: user.access })
  const phone = authenticatorFor(setup.body.uri)
  const confirmingCode = phone.codeAt(now())
  const confirmed = await demo.call('POST', '/api/totp/confirm/', {
    bearer: user.access,
    body: { input_code: confirmingCode },
  })
  return {
    // The access token is the one from before, which has proved no second factor; the refresh token was exchanged.
    ...user,
    refresh: confirmed.body.refresh as string,
    secret: setup.body.secret as string,
    phone,
    confirmingCode,
    backupCodes: confirmed.body.backup_codes as string[],
    /** The code of the next step is within the window, and later than the one that confirmed. */
    nextCode: () => phone.codeAt(now() + 30),
    challenge: async () => {
      const { password } = user
      const { body } = await demo.call('POST', '/api/jwt/create/', { body: { username, password } })
      return body.totp_challenge_token as string
    },
  }
}

export function now(): number {
  return Math.floor(Date.now() / 1000)
}

/** Everything that the database has on disk, as text. */
export async function databaseDump(demo: Demo): Promise<string> {
  const files = ['', '-wal'].map((suffix) => readFile(demo.databasePath + suffix).catch(() => Buffer.alloc(0)))
  return Buffer.concat(await Promise.all(files)).toString('latin1')
}
