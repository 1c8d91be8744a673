/** No server listens there: its tests are left out. */
const withoutServers = {
  TEST_POSTGRES_URL: 'postgres://127.0.0.1:1/none',
  TEST_MYSQL_URL: 'mysql://127.0.0.1:1/none',
  TEST_REDIS_URL: 'redis://127.0.0.1:1',
}

/** What is mutated, and the tests that a mutant there has to pass: those that reach the room in this process. */
export const rooms = {
  otp: { mutate: ['src/otp/**/*.ts'], tests: ['src/otp/*.test.ts'] },
  crypto: { mutate: ['src/crypto/**/*.ts'], tests: ['src/crypto/*.test.ts'] },
  flows: {
    mutate: ['src/flows/**/*.ts'],
    tests: [
      'test/host.test.ts',
      'test/caller.test.ts',
      'test/enforcement.test.ts',
      'test/http/wire-!(throttle).test.ts',
      'test/recovery.test.ts',
      'test/faults.test.ts',
      'test/mail.test.ts',
    ],
    environment: { ...withoutServers, TEST_FRONT: 'Fetch' },
  },
  /** All that runs without a server; PostgreSQL's statements on PGlite. */
  store: {
    mutate: ['src/store/**/*.ts', '!src/store/{mysql,postgres}.ts', '!src/store/sql/pooled.ts'],
    tests: [
      'src/store/sql/*.test.ts',
      'test/stores.test.ts',
      'test/sqlite.test.ts',
      'test/growth.test.ts',
      'test/migrations.test.ts',
    ],
    environment: withoutServers,
  },
  /** What speaks to PostgreSQL and MariaDB over a socket; both must be up. */
  servers: {
    mutate: ['src/store/{mysql,postgres}.ts', 'src/store/sql/pooled.ts'],
    tests: [
      'test/stores.test.ts',
      'test/postgres.test.ts',
      'test/mysql.test.ts',
      'test/within.test.ts',
      'test/migrations.test.ts',
      'test/faults.test.ts',
    ],
  },
}
