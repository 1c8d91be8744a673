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
  /** `taken` when the user name is, or the e-mail address in whichever case. */
  register(user: { username: string; email: string; password: string }): Promise<User | { taken: 'username' | 'email' }>
  /** The user's id; null for an unknown name or a wrong password, after the same work. */
  authenticate(username: string, password: string): Promise<string | null>
  find(id: string): Promise<User | null>
  /** By e-mail address, upper and lower case alike. */
  findByEmail(email: string): Promise<User | null>
  /** True when this is the password of the user with that id. */
  checkPassword(id: string, password: string): Promise<boolean>
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
  const byEmail = async (email: string) => {
    const sql = 'SELECT id, username, email FROM demo_user WHERE lower(email) = lower(?)'
    const [row] = (await database.all(sql, [email])) as unknown as User[]
    return row ? { id: row.id, username: row.username, email: row.email } : null
  }
  const check = async ([row]: Record<string, unknown>[], password: string): Promise<string | null> => {
    const { id, salt, password_hash } = (row ?? nobody) as { id: string; salt: string; password_hash: string }
    const given = await hash(password, Buffer.from(salt, 'hex'), HASH_BYTES)
    return timingSafeEqual(given, Buffer.from(password_hash, 'hex')) ? id : null
  }

  // One at a time: hashing runs in the few threads of Node.js, and log-ins need them too.
  const inTurn = turns()

  return {
    async register({ username, email, password }) {
      const id = randomUUID()
      const salt = randomBytes(16)
      const passwordHash = (await inTurn(() => hash(password, salt, HASH_BYTES))).toString('hex')
      const row = [id, username, email, salt.toString('hex'), passwordHash]
      const isFree = (await byEmail(email)) === null
      if (isFree && (await database.insert('demo_user (id, username, email, salt, password_hash)', row))) {
        return { id, username, email }
      }
      return { taken: (await byName(username)).length > 0 ? 'username' : 'email' }
    },

    authenticate: async (username, password) => check(await byName(username), password),

    async checkPassword(id, password) {
      const rows = await database.all('SELECT id, salt, password_hash FROM demo_user WHERE id = ?', [id])
      return (await check(rows, password)) === id
    },

    findByEmail: byEmail,

    async find(id) {
      const [row] = (await database.all('SELECT id, username, email FROM demo_user WHERE id = ?', [
        id,
      ])) as unknown as User[]
      return row ? { id: row.id, username: row.username, email: row.email } : null
    },
  }
}

/** Runs work one after the other, in the order in which it came. */
function turns() {
  let last: Promise<unknown> = Promise.resolve()
  return <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work)
    last = done.catch(() => undefined)
    return done
  }
}
