import { randomBytes, randomUUID, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import type { Database } from './database.ts'

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
  find(id: string): Promise<User | null>
}

const hash = promisify<string, Uint8Array, number, Buffer>(scrypt)
const HASH_BYTES = 32

/** Makes the table when it is not there. */
export async function usersIn(database: Database): Promise<Users> {
  const { keyType } = database
  await database.execute(`CREATE TABLE IF NOT EXISTS demo_user (
    id ${keyType} NOT NULL PRIMARY KEY,
    username ${keyType} NOT NULL UNIQUE,
    email ${keyType} NOT NULL UNIQUE,
    salt ${keyType} NOT NULL,
    password_hash ${keyType} NOT NULL
  )`)
  const nobody = { id: null, salt: randomBytes(16).toString('hex'), password_hash: '00'.repeat(HASH_BYTES) }
  const byName = (username: string) =>
    database.all('SELECT id, salt, password_hash FROM demo_user WHERE username = ?', [username])

  return {
    async register({ username, email, password }) {
      const id = randomUUID()
      const salt = randomBytes(16)
      const passwordHash = (await hash(password, salt, HASH_BYTES)).toString('hex')
      const row = [id, username, email, salt.toString('hex'), passwordHash]
      if (await database.insert('demo_user (id, username, email, salt, password_hash)', row)) {
        return { id, username, email }
      }
      return { taken: (await byName(username)).length > 0 ? 'username' : 'email' }
    },

    async authenticate(username, password) {
      const [row = nobody] = (await byName(username)) as { id: string; salt: string; password_hash: string }[]
      const given = await hash(password, Buffer.from(row.salt, 'hex'), HASH_BYTES)
      return timingSafeEqual(given, Buffer.from(row.password_hash, 'hex')) ? row.id : null
    },

    async find(id) {
      const [row] = (await database.all('SELECT id, username, email FROM demo_user WHERE id = ?', [
        id,
      ])) as unknown as User[]
      return row ? { id: row.id, username: row.username, email: row.email } : null
    },
  }
}
