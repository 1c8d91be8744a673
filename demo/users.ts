import { randomBytes, randomUUID, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import type { SqliteDatabase } from 'totp-kit/store/sqlite'

export interface User {
  id: string
  username: string
  email: string
}

/** The demo's own users: what an application has before it adds a second factor. */
export interface Users {
  /** Null when user name or e-mail address is taken; `taken` says which. */
  register(user: { username: string; email: string; password: string }): Promise<User | { taken: 'username' | 'email' }>
  /** The user's id; null for an unknown name or a wrong password, after the same work. */
  authenticate(username: string, password: string): Promise<string | null>
  find(id: string): User | null
}

const hash = promisify<string, Uint8Array, number, Buffer>(scrypt)
const HASH_BYTES = 32

export function usersIn(database: SqliteDatabase): Users {
  database.exec(`CREATE TABLE IF NOT EXISTS demo_user (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL UNIQUE,
    salt TEXT NOT NULL,
    password_hash TEXT NOT NULL
  ) STRICT`)
  const insert = database.prepare(`INSERT INTO demo_user (id, username, email, salt, password_hash)
    VALUES (:id, :username, :email, :salt, :passwordHash) ON CONFLICT DO NOTHING`)
  const byId = database.prepare('SELECT id, username, email FROM demo_user WHERE id = :id')
  const byName = database.prepare('SELECT id, salt, password_hash FROM demo_user WHERE username = :username')
  const nobody = { id: null, salt: randomBytes(16).toString('hex'), password_hash: '00'.repeat(HASH_BYTES) }

  return {
    async register({ username, email, password }) {
      const id = randomUUID()
      const salt = randomBytes(16)
      const passwordHash = (await hash(password, salt, HASH_BYTES)).toString('hex')
      const { changes } = insert.run({ id, username, email, salt: salt.toString('hex'), passwordHash })
      if (Number(changes) === 1) return { id, username, email }
      return { taken: byName.all({ username }).length > 0 ? 'username' : 'email' }
    },

    async authenticate(username, password) {
      const [row = nobody] = byName.all({ username }) as { id: string; salt: string; password_hash: string }[]
      const given = await hash(password, Buffer.from(row.salt, 'hex'), HASH_BYTES)
      return timingSafeEqual(given, Buffer.from(row.password_hash, 'hex')) ? row.id : null
    },

    find(id) {
      const [row] = byId.all({ id }) as User[]
      return row ? { id: row.id, username: row.username, email: row.email } : null
    },
  }
}
