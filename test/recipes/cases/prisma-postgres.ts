import { ON_POSTGRES, onPostgres, totpKit } from '../hosts.js'
import { prove } from '../proof.js'
import { pool, prisma } from './db.js'

await prove({
  ...onPostgres(pool),
  async migrate() {
    await pool.query(ON_POSTGRES)
    await pool.query(totpKit('schema', '--dialect', 'postgres'))
  },
  twoFactor: () => import('./two-factor.js'),
  async protectedAccounts() {
    // Every column of every table: the models fit the tables.
    await Promise.all([
      prisma.totpUser.findMany(),
      prisma.totpAuthenticator.findMany(),
      prisma.totpPendingAuthenticator.findMany(),
      prisma.totpBackupCode.findMany(),
      prisma.totpFailure.findMany(),
      prisma.totpBurntToken.findMany(),
      prisma.totpRefreshFamily.findMany(),
      prisma.totpThrottle.findMany(),
      prisma.totpCanary.findMany(),
      prisma.totpMigration.findMany(),
    ])
    const rows = await prisma.protectedAccount.findMany({ orderBy: { userId: 'asc' } })
    return rows.map(({ userId }) => userId)
  },
  async close() {
    await prisma.$disconnect()
    await pool.end()
  },
})
