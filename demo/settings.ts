import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { generateFernetKey, resolveFernetKey } from 'totp-kit'

/** What the demo server runs with. */
export interface Settings {
  host: string
  port: number
  /** `sqlite:PATH`, `postgres://…` or `mysql://…`. */
  databaseUrl: string
  redisUrl: string | null
  /** Processes that share port and database. */
  workers: number
  encryptionKey: string
  /** Set when a key was made, or found where an earlier start had left it. */
  keyFile: string | null
  issuer: string
  backupCodes: number
  rateLimit: string
  rateLimitStorage: 'memory' | 'store'
  challengeTokenSeconds: number
  maxAuthenticators: number
  backupCodeStorage: 'encrypted' | 'hashed'
  /** How long a device can be trusted; null: not at all. */
  trustedDeviceDays: number | null
  /** Whether everybody must have a second factor. */
  enforce: boolean
  recoveryDelaySeconds: number
  /** Where mails are handed over; null: each becomes a file in `outbox`. */
  smtpUrl: string | null
  outbox: string
}

/** A setting that the server cannot run with; the message is the one line that the operator sees. */
class SettingError extends Error {}

/** Reads the settings from environment variables. @throws SettingError */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const port = whole('PORT', env.PORT ?? '3000', 0, 65_535)
  const backupCodes = whole('TOTP_MAX_BACKUP_CODES', env.TOTP_MAX_BACKUP_CODES ?? '10', 1, 50)
  const challengeTokenSeconds = whole('TOTP_TOKEN_MAX_AGE', env.TOTP_TOKEN_MAX_AGE ?? '120', 1, 3600)
  const workers = whole('WORKERS', env.WORKERS ?? '1', 1, 64)
  const databaseUrl = env.DATABASE_URL ?? 'sqlite:data/demo.sqlite3'
  if (!/^(sqlite:.|postgres(ql)?:\/\/|mysql:\/\/)/.test(databaseUrl)) {
    // The value is not repeated: a database URL may hold a password.
    throw new SettingError('DATABASE_URL: must have the form sqlite:PATH, postgres://… or mysql://…')
  }
  const redisUrl = env.REDIS_URL || null
  if (redisUrl !== null && !(/^rediss?:\/\//.test(redisUrl) && URL.canParse(redisUrl))) {
    throw new SettingError('REDIS_URL: must have the form redis://…')
  }
  const host = env.HOST ?? '127.0.0.1'
  if (host.trim() === '') throw new SettingError('HOST: must not be empty')
  const smtpUrl = env.SMTP_URL || null
  if (smtpUrl !== null && !(/^smtps?:\/\/[^/]/.test(smtpUrl) && URL.canParse(smtpUrl))) {
    // Not repeated either.
    throw new SettingError('SMTP_URL: must have the form smtp://… or smtps://…')
  }
  const [, path] = /^sqlite:(?:\/\/)?(.+)$/.exec(databaseUrl) ?? []
  if (path === ':memory:' && workers > 1)
    throw new SettingError('WORKERS: an in-memory database allows only one process')
  const keyFile = path === undefined ? 'data/demo.key' : `${path}.key`
  if (path !== undefined) mkdirSync(dirname(path), { recursive: true })
  return {
    host,
    port,
    databaseUrl,
    redisUrl,
    workers,
    ...readKey(env, keyFile),
    issuer: env.TOTP_ISSUER ?? 'totp-kit demo',
    backupCodes,
    rateLimit: env.TOTP_THROTTLE_RATE ?? '10/minute',
    rateLimitStorage: workers > 1 || redisUrl !== null ? 'store' : 'memory',
    challengeTokenSeconds,
    maxAuthenticators: whole('TOTP_MAX_AUTHENTICATORS', env.TOTP_MAX_AUTHENTICATORS ?? '1', 1, 5),
    backupCodeStorage: storage(env.TOTP_BACKUP_CODE_STORAGE ?? 'encrypted'),
    trustedDeviceDays: whole('TOTP_TRUSTED_DEVICE_DAYS', env.TOTP_TRUSTED_DEVICE_DAYS ?? '30', 0, 90) || null,
    enforce: yesOrNo('TOTP_ENFORCE', env.TOTP_ENFORCE ?? 'off'),
    recoveryDelaySeconds: whole('TOTP_RECOVERY_DELAY', env.TOTP_RECOVERY_DELAY ?? '0', 0, 604_800),
    smtpUrl,
    outbox: env.OUTBOX_DIR ? folder('OUTBOX_DIR', env.OUTBOX_DIR) : 'data/outbox',
  }
}

/** Makes a folder, so that one that cannot be is known now and not when somebody waits for a mail. */
function folder(name: string, path: string): string {
  try {
    mkdirSync(path, { recursive: true })
  } catch (error) {
    throw new SettingError(`${name}: ${(error as Error).message}`)
  }
  return path
}

/**
 * The key of the environment; else the one beside the database; else a new one, put there for the next start. A database
 * in memory leaves nothing behind that would need its key again.
 */
function readKey(env: NodeJS.ProcessEnv, keyFile: string): { encryptionKey: string; keyFile: string | null } {
  if (env.TOTP_ENCRYPTION_KEY) {
    try {
      return { encryptionKey: resolveFernetKey(), keyFile: null }
    } catch (error) {
      throw new SettingError(`TOTP_ENCRYPTION_KEY: ${(error as Error).message}`)
    }
  }
  if (keyFile === ':memory:.key') return { encryptionKey: generateFernetKey(), keyFile: null }
  if (!existsSync(keyFile)) {
    mkdirSync(dirname(keyFile), { recursive: true })
    writeFileSync(keyFile, `${generateFernetKey()}\n`, { mode: 0o600 })
    chmodSync(keyFile, 0o600)
  }
  return { encryptionKey: readFileSync(keyFile, 'utf8').trim(), keyFile }
}

function whole(name: string, value: string, least: number, most: number): number {
  const number = Number(value)
  if (!/^\d+$/.test(value) || number < least || number > most) {
    throw new SettingError(`${name}: must be an integer from ${least} to ${most}`)
  }
  return number
}

function storage(value: string): 'encrypted' | 'hashed' {
  if (value === 'encrypted' || value === 'hashed') return value
  throw new SettingError('TOTP_BACKUP_CODE_STORAGE: must be encrypted or hashed')
}

const YES = ['on', 'true', 'yes', '1']
const NO = ['off', 'false', 'no', '0', '']

function yesOrNo(name: string, value: string): boolean {
  const word = value.toLowerCase()
  if (YES.includes(word)) return true
  if (NO.includes(word)) return false
  throw new SettingError(`${name}: must be on or off`)
}
