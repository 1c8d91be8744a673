import { createHash } from 'node:crypto'
import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express'
import { type Caller, createTotp, problemReply, TotpError, type TotpEvent, type TotpStore } from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { type JwtTokens, jwtTokens } from 'totp-kit/jwt'
import { notifyByMail } from 'totp-kit/mail'
import { accountRecovery } from 'totp-kit/recovery'
import type { Database } from './database.ts'
import { mailSender } from './mail.ts'
import type { Settings } from './settings.ts'
import { type User, type Users, usersIn } from './users.ts'

type AppSettings = Pick<
  Settings,
  | 'encryptionKey'
  | 'issuer'
  | 'backupCodes'
  | 'rateLimit'
  | 'rateLimitStorage'
  | 'challengeTokenSeconds'
  | 'maxAuthenticators'
  | 'backupCodeStorage'
  | 'trustedDeviceDays'
  | 'enforce'
  | 'recoveryDelaySeconds'
  | 'smtpUrl'
  | 'outbox'
>

/**
 * The demo application: an API with users and a log-in, to which totp-kit has been added.
 *
 * @param parts - `page`: the folder with the web page; `url`: where it is served; `log`: gets a line for each event
 * @returns the application, and the way to end what is under way before the database goes
 */
export async function createApp(
  settings: AppSettings,
  parts: { database: Database; store: TotpStore; page: string; url: () => string; log: (line: string) => void },
): Promise<{ app: Express; close: () => Promise<void> }> {
  const { database, store, page, url, log } = parts
  const users = await usersIn(database)
  const totp = await createTotp<User>({
    issuer: settings.issuer,
    encryptionKey: settings.encryptionKey,
    store,
    findUser: users.find,
    backupCodes: { count: settings.backupCodes, storage: settings.backupCodeStorage },
    challengeTokenSeconds: settings.challengeTokenSeconds,
    rateLimit: settings.rateLimit,
    rateLimitStorage: settings.rateLimitStorage,
    maxAuthenticators: settings.maxAuthenticators,
    trustedDevices: settings.trustedDeviceDays === null ? false : { days: settings.trustedDeviceDays },
    ...(settings.enforce && { enforcement: { required: () => true, accountName: (user: User) => user.email } }),
    onError: (error) => log(`error ${describe(error)}`),
  })
  const tokens = jwtTokens(totp, { authenticate: users.authenticate })
  const send = mailSender(settings)
  const addressesOf = async (id: string) => (await users.find(id).then((user) => user && [user.email])) ?? []
  notifyByMail(totp, { addressesOf, send })
  const recovery = accountRecovery(totp, {
    async findAccount(email) {
      const user = await users.findByEmail(email)
      return user && { userId: user.id, email: user.email }
    },
    addressesOf,
    checkPassword: users.checkPassword,
    send,
    pageUrl: url,
    delaySeconds: settings.recoveryDelaySeconds,
  })
  const caller = async (request: Request): Promise<Caller | null> =>
    (await session(request, tokens, users))?.caller ?? null
  for (const type of Object.keys(LOGGED) as TotpEvent['type'][]) totp.on(type, (event) => log(lineOf(event)))

  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use(securityHeaders)
  app.get('/healthz', async (_request, response) => {
    await database.all('SELECT 1 AS one', [])
    response.json({ status: 'ok' })
  })
  app.use(express.static(page))
  app.use('/api', (_request, response, next) => {
    response.set('cache-control', 'no-store')
    next()
  })
  const twoFactor = expressTotp(totp, { caller, jwt: tokens, recovery })
  app.use('/api', twoFactor)

  app.post(
    '/api/register',
    async (request, _response, next) => {
      if (settings.rateLimit !== 'off') await countRegistration(store, request)
      next()
    },
    express.json({ limit: '16kb' }),
    express.urlencoded({ limit: '16kb' }),
    async (request, response) => {
      const registered = await users.register(readRegistration(request))
      if ('taken' in registered) {
        throw new TotpError('validation_failed', { fields: { [registered.taken]: ['This is already in use.'] } })
      }
      response.status(201).json({ id: registered.id, username: registered.username })
    },
  )
  app.get('/api/me', async (request, response) => {
    const known = await session(request, tokens, users)
    if (known === null) throw new TotpError('unauthenticated')
    const { user, amr, authTime } = known
    response.json({ ...user, is_totp_enabled: await totp.isTotpEnabled(user.id), amr, auth_time: authTime })
  })
  app.get('/api/vault', twoFactor.require({ maxAgeSeconds: 300 }), (_request, response) => {
    response.json({ secret: 'The treasure is buried under the third palm tree.' })
  })
  app.use((_request, response) => reply(response, new TotpError('not_found')))
  app.use(((error, _request, response, _next) => {
    const refusal = refusalOf(error)
    if (refusal.code === 'unavailable') log(`error ${describe(error)}`)
    reply(response, refusal)
  }) satisfies ErrorRequestHandler)
  return { app, close: () => totp.close() }
}

/** Every kind of event there is: the compiler misses one that is not here. */
const LOGGED: Record<TotpEvent['type'], true> = {
  'totp.created': true,
  'totp.confirmed': true,
  'totp.imported': true,
  'totp.disabled': true,
  'totp.verified': true,
  'totp.refused': true,
  'totp.failing': true,
  'totp.locked': true,
  'totp.unlocked': true,
  'totp.resynchronized': true,
  'authenticator.removed': true,
  'authenticator.renamed': true,
  'login.challenged': true,
  'step_up.refused': true,
  'enrollment.required': true,
  'backup_codes.rotated': true,
  'backup_codes.viewed': true,
  'backup_codes.saved': true,
  'backup_code.used': true,
  'trusted_device.kept': true,
  'trusted_device.used': true,
  'trusted_device.refused': true,
  'trusted_device.removed': true,
  'recovery.requested': true,
  'recovery.refused': true,
  'recovery.confirmed': true,
  'recovery.canceled': true,
  'tokens.refused': true,
  'credentials.changed': true,
  'user.forgotten': true,
  'sessions.ended': true,
  'secret.unreadable': true,
  'mail.failed': true,
}

/** Who holds the access token of the request; null: nobody, or a user who is gone. */
async function session(request: Request, tokens: JwtTokens, users: Users) {
  const token = await tokens.verifyAccessToken(request.headers.authorization)
  const user = token && (await users.find(token.id))
  if (!token || !user) return null
  return { user, amr: token.amr, authTime: token.authTime, caller: { ...token, accountName: user.email } }
}

const REGISTRATIONS = { limit: 10, windowSeconds: 60 }

/**
 * Counts a registration of a client's address, together with all processes: it tells which names are taken, and hashes a
 * password.
 *
 * @throws TotpError `throttled`
 */
async function countRegistration(store: TotpStore, { ip = '' }: Request): Promise<void> {
  const now = Math.floor(Date.now() / 1000)
  const keyDigest = createHash('sha256').update(`register ${ip}`).digest('base64url')
  const { calls, endsAt } = await store.countCall({ keyDigest, windowSeconds: REGISTRATIONS.windowSeconds, now })
  if (calls <= REGISTRATIONS.limit) return
  throw new TotpError('throttled', { retryAfterSeconds: Math.max(1, endsAt - now), rate: REGISTRATIONS })
}

const MIN_PASSWORD_LENGTH = 8

function readRegistration(request: Request): { username: string; email: string; password: string } {
  if (request.body === undefined && request.headers['content-type'] !== undefined) {
    throw new TotpError('unsupported_media_type')
  }
  const body: Record<string, unknown> = request.body ?? {}
  if (Array.isArray(body)) throw new TotpError('malformed_json')
  const { username, email, password } = body
  const fields: Record<string, string[]> = {}
  if (!isLine(username, 150)) fields.username = ['Use 1 to 150 characters.']
  // A colon separates issuer and account in an authenticator app, so an address that holds one could not be enrolled.
  if (!isLine(email, 254) || !/^[^\s@:]+@[^\s@:]+$/.test(email.trim())) fields.email = ['Enter a valid email address.']
  if (!isLine(password, 1024) || [...password].length < MIN_PASSWORD_LENGTH) {
    fields.password = [`Use at least ${MIN_PASSWORD_LENGTH} characters.`]
  }
  if (Object.keys(fields).length > 0) throw new TotpError('validation_failed', { fields })
  return { username: String(username).trim(), email: String(email).trim(), password: String(password) }
}

function isLine(value: unknown, longest: number): value is string {
  return (
    typeof value === 'string' &&
    value.trim() !== '' &&
    value.length <= longest &&
    value.isWellFormed() &&
    !/\p{Cc}/u.test(value)
  )
}

function refusalOf(error: unknown): TotpError {
  if (error instanceof TotpError) return error
  const { status, type } = error as { status?: number; type?: string }
  if (type === 'entity.parse.failed') return new TotpError('malformed_json')
  if (status === 413) return new TotpError('payload_too_large')
  if (status === 415) return new TotpError('unsupported_media_type')
  if (status !== undefined && status < 500) return new TotpError('not_found')
  return new TotpError('unavailable')
}

function reply(response: Response, refusal: TotpError): void {
  const { status, headers, body } = problemReply(refusal)
  response.writeHead(status, headers)
  response.end(body)
}

/** An event as a line: none of its members is a secret, a code or a token. */
function lineOf({ type, ...rest }: TotpEvent): string {
  return [type, ...Object.entries(rest).map(([name, value]) => `${name}=${value}`)].join(' ')
}

function describe(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return cause instanceof Error ? `${cause.name}: ${cause.message}` : 'unknown'
}

/** The page loads nothing from elsewhere, and nothing but itself may frame it. */
const securityHeaders = (_request: Request, response: Response, next: () => void): void => {
  response.set({
    'Content-Security-Policy':
      "require-trusted-types-for 'script'; " +
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
      "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  })
  next()
}
