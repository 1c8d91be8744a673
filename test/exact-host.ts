// A host that is compiled with `exactOptionalPropertyTypes` and hands on settings that it may not have.
// `tsc` compiles it against the sources, test/pack.test.ts against the declarations of the package.
import { type Caller, createTotp, type Totp } from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { fetchTotp } from 'totp-kit/fetch'
import { createHandle } from 'totp-kit/http'
import { jwtTokens } from 'totp-kit/jwt'
import { nodemailerSender } from 'totp-kit/mail'
import { nodeTotp } from 'totp-kit/node'
import { accountRecovery } from 'totp-kit/recovery'
import { withRedis } from 'totp-kit/redis'
import { memoryStore } from 'totp-kit/store/memory'
import { type MysqlPool, mysqlStore } from 'totp-kit/store/mysql'
import { type PostgresClient, postgresStore } from 'totp-kit/store/postgres'
import { sqliteStore } from 'totp-kit/store/sqlite'

/** A setting that may be missing. */
declare function setting<T>(name: string): T | undefined
declare const client: PostgresClient
declare const pool: MysqlPool

export async function host(): Promise<Totp> {
  const totp = await createTotp({
    issuer: 'Acme',
    encryptionKey: process.env.TOTP_ENCRYPTION_KEY,
    store: memoryStore(),
    totp: {
      algorithm: setting<'SHA1' | 'SHA256'>('algorithm'),
      digits: setting<number>('digits'),
      periodSeconds: setting<number>('period'),
      window: setting<number>('window'),
    },
    challengeTokenSeconds: setting<number>('challenge'),
    backupCodes: { count: setting<number>('count'), storage: setting<'hashed'>('storage') },
    maxAuthenticators: setting<number>('authenticators'),
    failures: {
      delayAfter: setting<number>('delayAfter'),
      firstDelaySeconds: setting<number>('firstDelay'),
      maxDelaySeconds: setting<number>('maxDelay'),
      lockAfter: setting<number>('lockAfter'),
      maxPerPeriod: setting<number>('maxPerPeriod'),
      periodDays: setting<number>('periodDays'),
      unsafe: setting<boolean>('unsafe'),
    },
    trustedDevices: setting<boolean>('trusted') ? { days: 30, cookie: setting<string>('cookie') } : undefined,
    stepUp: setting<{ maxAgeSeconds: number }>('stepUp'),
    rateLimit: setting<string>('rate'),
    rateLimitStorage: setting<'store'>('rateStorage'),
    findUser: setting<(id: string) => { email: string } | null>('findUser'),
    enforcement: {
      required: () => true,
      accountName: ({ email }) => email,
      issuer: setting<() => string | undefined>('issuerOf'),
    },
    onError: setting<(error: unknown) => void>('log'),
    clock: setting<() => number>('clock'),
  })
  totp.on('*', () => undefined, { awaited: setting<boolean>('audited') })
  const session: Caller = {
    id: '42',
    accountName: 'ann',
    verifiedAt: setting<number>('verifiedAt'),
    generation: setting<number>('generation'),
    amr: setting<string[]>('amr'),
    sessionId: setting<string>('sessionId'),
    issuer: setting<string>('issuer'),
  }
  await totp.requireFresh(session, { maxAgeSeconds: 300 })
  await totp.permitChange(session, setting<string>('code'))
  await totp.startLogin('42', { amr: setting<string[]>('amr'), trustedDevice: setting<string>('device') })
  await totp.createTotpSetup({
    id: '42',
    accountName: 'ann',
    name: setting<string>('name'),
    issuer: setting<string>('issuer'),
    sessionId: setting<string>('sessionId'),
    resume: setting<boolean>('resume'),
  })
  await totp.confirmTotpSetup('42', '123456', { sessionId: setting<string>('id'), amr: setting<string[]>('amr') })
  await totp.verifyTotpCode('42', '123456', { amr: setting<string[]>('amr') })
  await totp.importAuthenticator('42', {
    secret: 'JBSWY3DPEHPK3PXP',
    name: setting<string>('name'),
    digits: setting<number>('digits'),
    periodSeconds: setting<number>('period'),
    algorithm: setting<'SHA1'>('algorithm'),
    lastUsedStep: setting<number>('step'),
    backupCodes: setting<string[]>('codes'),
    confirmedAt: setting<number>('confirmed'),
  })
  await totp.within(client, async () => undefined, {
    deadlineMs: setting<number>('deadline'),
    signal: setting<AbortSignal>('signal'),
  })
  return totp
}

export async function doors(totp: Totp): Promise<unknown[]> {
  const send = nodemailerSender(
    { sendMail: async () => undefined },
    {
      from: 'Acme <security@acme.example>',
      templates: {
        totp_enabled: setting<() => { subject: string; text: string }>('template'),
        totp_disabled: () => ({ subject: 'Off', text: 'Off.', html: setting<string>('html') }),
      },
    },
  )
  const jwt = jwtTokens(totp, {
    authenticate: async () => null,
    accessTokenSeconds: setting<number>('access'),
    refreshTokenSeconds: setting<number>('refresh'),
  })
  const recovery = accountRecovery(totp, {
    findAccount: async () => null,
    addressesOf: setting<() => Promise<string[]>>('addresses'),
    checkPassword: async () => false,
    send,
    pageUrl: 'https://app.example/recover',
    linkValidSeconds: setting<number>('valid'),
    delaySeconds: setting<number>('delay'),
  })
  const shared = {
    caller: () => null,
    jwt: setting<typeof jwt>('jwt'),
    recovery: setting<typeof recovery>('recovery'),
    onVerified: setting<() => void>('onVerified'),
    securityScheme: setting<{ type: 'apiKey'; name: string; in: string }>('scheme'),
  }
  const clientAddress = setting<() => string | undefined>('address')
  const tables = { prefix: setting<string>('prefix'), schema: setting<string>('schema') }
  const basePath = setting<string>('base')
  const handle = createHandle<null>(totp, { ...shared, clientAddress })
  await handle({ method: 'GET', path: '/', basePath, headers: {}, body: setting<{ text: string }>('body') }, null)
  return [
    handle,
    expressTotp(totp, shared),
    nodeTotp(totp, { ...shared, basePath, trustedProxies: setting<string[]>('proxies') }),
    fetchTotp(totp, { ...shared, clientAddress, basePath, fallback: setting<() => Response>('fallback') }),
    await sqliteStore(':memory:', { prefix: setting<string>('prefix') }),
    postgresStore(client, tables).within(client, {
      deadlineMs: setting<number>('deadline'),
      signal: setting<AbortSignal>('signal'),
      onEnd: setting<() => void>('onEnd'),
    }),
    mysqlStore(pool, tables),
    withRedis(memoryStore(), { sendCommand: async () => null }, { prefix: setting<string>('prefix') }),
  ]
}
