import { generateFernetKey } from 'totp-kit'
import { mysqlPool, postgresPool, redisUrl, services } from '../services.ts'

/** What a demo server runs on, and what ends with it. */
export interface Ground {
  env: Record<string, string>
  drop(): Promise<void>
}

interface Kind {
  isThere: boolean
  make(): Promise<Ground>
}

/** The databases that the demo server knows. Processes that share one are given one key. */
export const grounds = {
  SQLite: {
    isThere: true,
    make: async () => ({ env: { TOTP_ENCRYPTION_KEY: generateFernetKey() }, drop: async () => undefined }),
  },
  PostgreSQL: {
    isThere: services.postgres,
    async make() {
      const { url, drop } = await postgresPool(1)
      return { env: { DATABASE_URL: url, TOTP_ENCRYPTION_KEY: generateFernetKey() }, drop }
    },
  },
  'MariaDB, with Redis in front': {
    isThere: services.mysql && services.redis,
    async make() {
      const { url, drop } = await mysqlPool(1)
      return { env: { DATABASE_URL: url, REDIS_URL: redisUrl, TOTP_ENCRYPTION_KEY: generateFernetKey() }, drop }
    },
  },
} satisfies Record<string, Kind>
