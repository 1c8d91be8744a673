import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { inspect } from 'node:util'
import express, { type RequestHandler } from 'express'
import {
  type Caller,
  createTotp,
  generateFernetKey,
  type Proof,
  type Totp,
  type TotpOptions,
  type TotpStore,
} from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { fetchTotp } from 'totp-kit/fetch'
import { type JwtOptions, type JwtTokens, jwtTokens } from 'totp-kit/jwt'
import type { Notification } from 'totp-kit/mail'
import { nodeTotp } from 'totp-kit/node'
import { accountRecovery, type Recovery } from 'totp-kit/recovery'
import { memoryStore } from 'totp-kit/store/memory'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { type FakeClock, fakeClock } from 'totp-kit/testing'
import { onTestFinished } from 'vitest'
import { type Answer, answerOf, expectRulesOfEveryEndpoint } from './answer.ts'
import { expectDocumented, type OpenApi } from './documented.ts'
import { LeakScan } from './leaks.ts'

/** A moment at the very beginning of a time step: 2027-01-15T08:00:00Z. */
export const NOON = 1_800_000_000

/** A user of the host's own: the library knows of the id only. */
export interface Person {
  id: string
  username: string
  email: string
  password: string
}

/** A request, said in one way for every front. At most one of `json`, `form` and `raw`. */
export interface Call {
  method?: string
  /** Below `/api/`: `totp/create/`. Begins with a slash: below the root. */
  path: string
  json?: unknown
  form?: Record<string, string> | [string, string][]
  /** Sent as it is; a stream goes without a declared length. */
  raw?: string | Uint8Array<ArrayBuffer> | ReadableStream
  headers?: Record<string, string>
  /** An access token. */
  bearer?: string | undefined
}

export interface ServiceOptions
  extends Partial<
    Pick<
      TotpOptions<Person>,
      | 'totp'
      | 'challengeTokenSeconds'
      | 'backupCodes'
      | 'stepUp'
      | 'rateLimit'
      | 'rateLimitStorage'
      | 'maxAuthenticators'
      | 'trustedDevices'
      | 'failures'
      | 'enforcement'
    >
  > {
  tokens?: Partial<JwtOptions>
  /** False: the log-in endpoints are not mounted. */
  jwt?: boolean
  /** False: the recovery endpoints are not mounted. */
  recovery?: boolean | { linkValidSeconds?: number; delaySeconds?: number }
  /** Whether a proxy on loopback is believed about the client's address. */
  behindProxy?: boolean
  accountName?: string
  /** The key of the store, where services share one. */
  encryptionKey?: string
  /** Users that another service has registered, when this one is a second process of the same host. */
  people?: Map<string, Person>
  /** Begins the ids of users, where services share a store. */
  idPrefix?: string
}

/** An application with totp-kit in it, running. */
export interface Service {
  totp: Totp<Person>
  tokens: JwtTokens
  clock: FakeClock
  people: Map<string, Person>
  /** Where a server listens on loopback; 0 for Fetch, which needs none. */
  port: number
  /** Operations of the store that fail for now. */
  broken: Set<keyof TotpStore>
  /** User ids that may not log in any more. */
  deactivated: Set<string>
  /** What reached `onError`. */
  errors: unknown[]
  /** What was secret so far, and where it must not be. */
  leaks: LeakScan
  /** What was mailed, links included. */
  mails: Notification[]
  /** Waits until so many mails have been sent. */
  mailed(count: number): Promise<void>
  /** What reached `onVerified`. */
  proofs: Proof[]
  register(username: string, password?: string): Person
  /** Sends a request and gives the answer as it came. */
  send(call: Call): Promise<Response>
  /** Sends a request to an endpoint of ours; the answer is held to the rules for every endpoint. */
  call(call: Call): Promise<Answer>
  post(path: string, json?: unknown, bearer?: string): Promise<Answer>
  get(path: string, bearer?: string): Promise<Answer>
}

/** A way into the application: a framework, and the store behind it. */
export interface Front {
  name: string
  /** A parser of the framework's reads the body before us. */
  parsesBefore?: boolean
  store: () => Promise<TotpStore>
  open: (app: Application) => Promise<Opened>
}

interface Application {
  totp: Totp<Person>
  modules: { jwt?: JwtTokens; recovery?: Recovery }
  caller: (authorization: string | null | undefined) => Promise<Caller | null>
  onVerified: (proof: Proof, authorization: string | null | undefined) => Promise<void>
  behindProxy: boolean
}

interface Opened {
  port: number
  send: (path: string, init: RequestInit) => Promise<Response>
  close: () => void
}

/** How old a second factor may be at `/vault`, the guarded route of the host's. */
const VAULT_SECONDS = 300

export const NODE: Front = { name: 'node:http', store: () => sqliteStore(':memory:'), open: openNode }
export const EXPRESS: Front = {
  name: 'Express',
  store: () => sqliteStore(':memory:'),
  open: (app) => openExpress(app, []),
}
export const EXPRESS_WITH_PARSERS: Front = {
  name: 'Express behind its body parsers',
  parsesBefore: true,
  store: async () => memoryStore(),
  open: (app) => openExpress(app, [express.json(), express.urlencoded()]),
}
export const FETCH: Front = { name: 'Fetch', store: () => sqliteStore(':memory:'), open: openFetch }

/** Every way into every framework: for the rules about requests. */
export const fronts: readonly Front[] = chosen([NODE, EXPRESS, EXPRESS_WITH_PARSERS, FETCH])
/** One way into each framework: for the rules that do not depend on who reads the body. */
export const frameworks: readonly Front[] = chosen([NODE, EXPRESS_WITH_PARSERS, FETCH])
/** A disk is slow: for a few tests. */
export const NODE_OVER_A_FILE: Front = { name: 'node:http over an SQLite file', store: sqliteFile, open: openNode }

/** All of them, or the one that TEST_FRONT names: test/mutation changes the rules, which are the same behind each. */
function chosen(all: readonly Front[]): readonly Front[] {
  return all.filter(({ name }) => name === (process.env.TEST_FRONT ?? name))
}

/** Starts an application behind a front; it ends with the test. */
export async function startService(front: Front, options: ServiceOptions = {}): Promise<Service> {
  const { tokens, jwt = true, recovery = true, behindProxy = false, accountName, ...rest } = options
  const { people = new Map<string, Person>(), idPrefix = '', encryptionKey = generateFernetKey(), ...policy } = rest
  const clock = fakeClock(NOON)
  const broken = new Set<keyof TotpStore>()
  const deactivated = new Set<string>()
  const errors: unknown[] = []
  const proofs: Proof[] = []
  const find = (test: (person: Person) => boolean) =>
    [...people.values()].find((person) => test(person) && !deactivated.has(person.id)) ?? null

  const totp = await createTotp<Person>({
    issuer: 'Acme',
    encryptionKey,
    store: breakable(await front.store(), broken),
    findUser: (userId) => find(({ id }) => id === userId),
    onError(error) {
      errors.push(error)
      leaks.hear(inspect(error, { depth: 9 }))
    },
    clock: clock.now,
    rateLimit: 'off',
    trustedDevices: { days: 30 },
    ...policy,
  })
  const leaks = new LeakScan(totp as Totp, encryptionKey)
  const mails: Notification[] = []
  let waiting = () => {}
  const lost = accountRecovery(totp, {
    findAccount: async (email) => {
      const person = find((person) => person.email.toLowerCase() === email.toLowerCase())
      return person && { userId: person.id, email: person.email }
    },
    checkPassword: async (userId, password) => find((person) => person.id === userId)?.password === password,
    send: async (mail) => {
      mails.push(mail)
      leaks.mailed(mail)
      waiting()
    },
    pageUrl: 'https://app.example/recover',
    ...(typeof recovery === 'object' ? recovery : {}),
  })
  const pairs = jwtTokens(totp, {
    authenticate: async (username, password) =>
      find((person) => person.username === username && person.password === password)?.id ?? null,
    ...tokens,
  })
  const opened = await front.open({
    totp,
    modules: { ...(jwt ? { jwt: pairs } : {}), ...(recovery ? { recovery: lost } : {}) },
    behindProxy,
    async caller(authorization) {
      // A host looks its session up somewhere: the answer does not come within the same turn of the event loop.
      await setImmediate()
      const token = await pairs.verifyAccessToken(authorization ?? undefined)
      const person = token && find(({ id }) => id === token.id)
      if (!token || !person) return null
      return { ...token, accountName: accountName ?? person.email }
    },
    async onVerified(proof) {
      proofs.push(proof)
    },
  })
  onTestFinished(async () => {
    opened.close()
    await totp.close()
    leaks.expectNothingLeaked()
  })

  const send = (call: Call) => {
    const path = call.path.startsWith('/') ? call.path : `/api/${call.path}`
    return opened.send(path, initOf(call))
  }
  const call = async (call: Call) => {
    const answer = await answerOf(await send(call))
    leaks.learn(call.json)
    leaks.learn(answer.body)
    expectRulesOfEveryEndpoint(answer, call.json)
    expectDocumented(await documentOf(`${jwt} ${recovery !== false}`, send), { method: 'POST', ...call }, answer)
    return answer
  }
  return {
    totp,
    tokens: pairs,
    clock,
    people,
    port: opened.port,
    broken,
    deactivated,
    errors,
    proofs,
    leaks,
    mails,
    async mailed(count) {
      while (mails.length < count) {
        await new Promise<void>((resolve) => {
          waiting = resolve
        })
      }
    },
    register(username, password = 'correct horse battery staple') {
      const person = { id: `${idPrefix}${people.size + 1}`, username, email: `${username}@example.com`, password }
      people.set(person.id, person)
      return person
    },
    send,
    call,
    post: (path, json, bearer) => call({ method: 'POST', path, json, bearer }),
    get: (path, bearer) => call({ method: 'GET', path, bearer }),
  }
}

const documents = new Map<string, Promise<OpenApi>>()

/** The OpenAPI document: the same for all services that mount the same modules. */
function documentOf(modules: string, send: Service['send']): Promise<OpenApi> {
  const asked =
    documents.get(modules) ??
    send({ method: 'GET', path: 'totp/openapi.json' }).then((response) => response.json() as Promise<OpenApi>)
  documents.set(modules, asked)
  return asked
}

function initOf({ method = 'POST', json, form, raw, headers = {}, bearer }: Call): RequestInit {
  const body = json !== undefined ? JSON.stringify(json) : form !== undefined ? new URLSearchParams(form) : raw
  return {
    method,
    headers: {
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      ...headers,
    },
    ...(body === undefined ? {} : { body }),
    ...(body instanceof ReadableStream ? { duplex: 'half' } : {}),
  }
}

async function openNode({ totp, modules, caller, onVerified, behindProxy }: Application): Promise<Opened> {
  const host = {
    caller: (request: IncomingMessage) => caller(request.headers.authorization),
    onVerified: (proof: Proof, request: IncomingMessage) => onVerified(proof, request.headers.authorization),
  }
  const handler = nodeTotp(totp, {
    ...host,
    ...modules,
    ...(behindProxy ? { trustedProxies: ['127.0.0.1'] } : {}),
  })
  const guard = handler.require({ maxAgeSeconds: VAULT_SECONDS })
  return listen((request, response) => {
    const own = () => {
      const [status, text] = request.url === '/api/host' ? [200, 'of the host'] : [404, 'nothing of the host either']
      response.writeHead(status).end(text)
    }
    if (request.url === '/vault') void guard(request, response, () => response.end('gold'))
    else void handler(request, response, own)
  })
}

async function openExpress(
  { totp, modules, caller, onVerified, behindProxy }: Application,
  parsers: RequestHandler[],
): Promise<Opened> {
  const app = express()
  const host = {
    caller: (request: express.Request) => caller(request.headers.authorization),
    onVerified: (proof: Proof, request: express.Request) => onVerified(proof, request.headers.authorization),
  }
  if (behindProxy) app.set('trust proxy', 'loopback')
  if (parsers.length > 0) app.use(parsers)
  const twoFactor = expressTotp(totp, { ...host, ...modules })
  app.use('/api', twoFactor)
  app.get('/api/host', (_request, response) => void response.send('of the host'))
  app.get(
    '/vault',
    twoFactor.require({ maxAgeSeconds: VAULT_SECONDS }),
    (_request, response) => void response.send('gold'),
  )
  app.use((_request, response) => void response.status(404).send('nothing of the host either'))
  return listen(app)
}

async function openFetch({ totp, modules, caller, onVerified, behindProxy }: Application): Promise<Opened> {
  const host = {
    caller: (request: Request) => caller(request.headers.get('authorization')),
    onVerified: (proof: Proof, request: Request) => onVerified(proof, request.headers.get('authorization')),
  }
  const handler = fetchTotp(totp, {
    ...host,
    ...modules,
    clientAddress: (request) => (behindProxy ? request.headers.get('x-forwarded-for') : '127.0.0.1'),
    fallback: ({ url }) =>
      url.endsWith('/api/host')
        ? new Response('of the host')
        : new Response('nothing of the host either', { status: 404 }),
  })
  const vault = handler.require({ maxAgeSeconds: VAULT_SECONDS }, () => new Response('gold'))
  return {
    send: (path, init) => (path === '/vault' ? vault : handler)(new Request(`http://service.test${path}`, init)),
    port: 0,
    close() {},
  }
}

/** A real server on a free port of loopback. */
export async function listen(listener: RequestListener): Promise<Opened> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    port,
    send: (path, init) => fetch(`http://127.0.0.1:${port}${path}`, init),
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

async function sqliteFile(): Promise<TotpStore> {
  const folder = mkdtempSync(join(tmpdir(), 'totp-kit-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return sqliteStore(join(folder, 'app.db'))
}

/** The store itself, of which single operations can be made to fail as they do when the database is gone. */
function breakable(store: TotpStore, broken: ReadonlySet<keyof TotpStore>): TotpStore {
  return new Proxy(store, {
    get(target, name: keyof TotpStore) {
      if (!broken.has(name)) return target[name]
      return () => Promise.reject(new Error('connection to database-7.internal refused'))
    },
  })
}
