import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import PostalMime from 'postal-mime'
import { openSqlite } from 'totp-kit/store/sqlite'
import { authenticatorFor } from 'totp-kit/testing'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { chromiumPath, launchChromium, readQr } from './chromium.ts'
import { type Demo, enrolled, now, startDemo } from './demo-process.ts'
import { visitor } from './visitor.ts'

/** F1 to F13: the faults of a review of these screens, each with the test that keeps it away. */
describe.skipIf(chromiumPath === null)('the screens', () => {
  let demo: Demo
  let browser: Browser
  let page: Page
  let faults: string[] = []
  const { view, click, type, logIn, register, answer, error, notice, account, keepCodes, fits } = visitor(() => page)

  beforeAll(async () => {
    demo = await startDemo()
    browser = await launchChromium()
  })
  afterAll(async () => {
    await browser.close()
    await demo.remove()
  })
  afterEach(() => {
    expect(faults).toEqual([])
    faults = []
  })

  async function open(at: Demo = demo, options: BrowserContextOptions = {}): Promise<void> {
    const context = await browser.newContext({ viewport: { width: 390, height: 844 }, ...options })
    onTestFinished(() => context.close())
    page = await context.newPage()
    page.setDefaultTimeout(10_000)
    page.on('pageerror', (fault) => faults.push(fault.message))
    await page.goto(at.url)
  }

  async function demoWith(env: Record<string, string>): Promise<Demo> {
    const other = await startDemo(env)
    onTestFinished(other.remove)
    return other
  }

  /** A session that has proved the password only. */
  async function useSession({ access, refresh }: { access: string; refresh: string }): Promise<void> {
    const tokens = JSON.stringify(JSON.stringify({ access, refresh }))
    await page.evaluate(`sessionStorage.setItem('totp-kit-demo-tokens', ${tokens})`)
    await page.reload()
    await account()
  }

  const text = (selector: string) => page.locator(selector).first().textContent()
  const secretOnScreen = async () => (await page.locator('[data-secret]').textContent())?.replaceAll(' ', '') ?? ''

  test('F1: the authenticator that a new one replaces is named before anything happens', async () => {
    const user = await enrolled(demo, 'f1')
    await open()
    await logIn(user.username, user.password)
    await answer(user.nextCode())
    await account()
    expect(await text('[data-action=new-phone]')).toBe('Replace authenticator')

    await click('new-phone')
    await page
      .locator('dialog')
      .getByText('When you confirm the new authenticator, it replaces “Authenticator app”')
      .waitFor()
    await click('begin-new-phone')
    await view('setup')

    expect(await text('[data-replaces]')).toBe('Authenticator app')
    expect(await text('[data-action=confirm]')).toBe('Confirm and replace')
  })

  test('F2: a reload of the setup, and a second start of it, show the same secret', async () => {
    await open()
    await register('f2')
    await account()
    await click('setup')
    await view('setup')
    const secret = await secretOnScreen()
    expect(
      await page.evaluate<string>('JSON.stringify({ ...sessionStorage }) + JSON.stringify(history.state)'),
    ).not.toContain(secret)

    await page.reload()
    await view('setup')
    expect(await secretOnScreen()).toBe(secret)
    await click('cancel')
    await account()
    expect(await text('[data-action=setup]')).toBe('Continue setup')
    await click('setup')
    await view('setup')
    expect(await secretOnScreen()).toBe(secret)

    await click('show-key')
    await click('start-over')
    await vi.waitFor(async () => expect(await secretOnScreen()).not.toBe(secret))
    await type(authenticatorFor(await readQr(page.locator('[data-qr]'))).codeAt(now()))
    await view('backup-codes')
  })

  test('F3: a right code after the wait is accepted, although the first challenge has expired', async () => {
    const short = await demoWith({ TOTP_TOKEN_MAX_AGE: '6' })
    const user = await enrolled(short, 'f3')
    await open(short)
    await logIn(user.username, user.password)
    for (let i = 0; i < 5; i++) {
      await answer(`00000${i}`)
      await page.locator('[name=code][aria-invalid=true]').waitFor()
      await error(i < 4 ? 'Incorrect code' : 'Too many incorrect codes')
    }
    await page.locator('[data-action=verify]:not([aria-disabled=true])').waitFor({ timeout: 40_000 })
    await answer(user.nextCode())
    await account()
  }, 60_000)

  test('F4: new backup codes are never one click away', async () => {
    const user = await enrolled(demo, 'f4')
    await open()
    await logIn(user.username, user.password)
    await answer(user.nextCode())
    await account()

    await click('rotate')
    await page.locator('dialog').getByText('Your 10 backup codes will stop working').waitFor()
    await page.locator('dialog [data-action=cancel]').click()
    await click('view-codes')
    await view('backup-codes')
    expect(await page.locator('[data-backup-codes] code').allInnerTexts()).toEqual(user.backupCodes)
  })

  test('F5: the codes are left only once they were kept, and the account says so until then', async () => {
    await open()
    await register('f5')
    await account()
    await click('setup')
    await view('setup')
    await type(authenticatorFor(await readQr(page.locator('[data-qr]'))).codeAt(now()))
    await view('backup-codes')

    expect(await page.locator('[data-action=saved]').getAttribute('aria-disabled')).toBe('true')
    await page.locator('[data-action=saved]').click({ force: true })
    await error('Copy, download, or print the codes first')
    await page.goBack()
    await error('Save your backup codes before you leave')
    await view('backup-codes')
    const asked = page.waitForEvent('dialog')
    const reloaded = page.reload()
    const question = await asked
    expect(question.type()).toBe('beforeunload')
    await question.accept()
    await reloaded

    await account()
    await page.locator('[data-codes-unsaved]').waitFor()
    await click('view-codes')
    await click('copy-codes')
    await click('saved')
    await notice('Your backup codes are saved')
    await account()
    expect(await page.locator('[data-codes-unsaved]').count()).toBe(0)
  })

  test('F5: codes that cannot be viewed again are offered to be generated', async () => {
    const hashed = await demoWith({ TOTP_BACKUP_CODE_STORAGE: 'hashed' })
    const user = await enrolled(hashed, 'f5')
    await open(hashed)
    await useSession(user)
    await page.locator('[data-codes-unsaved]').getByText('generate new codes').waitFor()
    expect(await page.locator('[data-action=view-codes]').count()).toBe(0)
    await click('codes-saved')
    await page.locator('[data-codes-unsaved]').waitFor({ state: 'detached' })
  })

  test('F6: the session that set it up has proved the second factor', async () => {
    await open()
    await register('f6')
    await account()
    await click('setup')
    await view('setup')
    await type(authenticatorFor(await readQr(page.locator('[data-qr]'))).codeAt(now()))
    await keepCodes()
    await account()
    await page.getByText('Logged in with password and second factor').waitFor()
    await click('open-vault')
    await page.getByText('third palm tree').waitFor()
  })

  test('F6: where everybody must set it up, that is the login', async () => {
    const strict = await demoWith({ TOTP_ENFORCE: 'on' })
    await open(strict)
    await register('f6')
    await view('setup')
    await page.reload()
    await view('setup')
    await type(authenticatorFor(await readQr(page.locator('[data-qr]'))).codeAt(now()))
    await keepCodes()
    await account()
    await click('open-vault')
    await page.getByText('third palm tree').waitFor()
  })

  test('F7: one code serves the actions after it, whether they read or change', async () => {
    const user = await enrolled(demo, 'f7')
    await open()
    await useSession(user)
    let codesSent = 0
    page.on('request', (request) => {
      if (request.url().endsWith('/totp/verify/')) codesSent++
    })

    await click('open-vault')
    await page.locator('dialog [name=code]').fill(user.nextCode())
    await page.getByText('third palm tree').waitFor()
    await click('view-codes')
    await view('backup-codes')
    await page.check('[name=kept]')
    await click('saved')
    await account()
    await click('rotate')
    await page.locator('dialog').waitFor()
    expect(await page.locator('dialog [name=code]').count()).toBe(0)
    await click('confirm-rotate')
    await view('backup-codes')
    expect(codesSent).toBe(1)
  })

  test('F8: a code that was just used costs no try, and the page waits for the next one', async () => {
    const user = await enrolled(demo, 'f8')
    await open()
    await logIn(user.username, user.password)
    await answer(user.confirmingCode)
    await error(/You already used this code. Your app shows the next one in \d+ seconds?\.$/)
    expect(await text('[data-action=verify]')).toMatch(/^Wait 0:\d\d$/)

    await click('use-backup-code')
    await click('use-app-code')
    for (const [code, words] of [
      ['000001', /^Incorrect code.*next code\.$/],
      ['000002', /^Incorrect code.*next code\.$/],
      ['000003', /You have 2 more tries before you have to wait\.$/],
      ['000004', /You have one more try before you have to wait\.$/],
    ] as const) {
      await Promise.all([page.waitForResponse('**/api/jwt/totp/verify/'), type(code)])
      await error(words)
    }
  })

  test('F9: on a phone the app opens by a large button, and the field for the code is on the first screen', async () => {
    await open(demo, { hasTouch: true, isMobile: true })
    await register('f9')
    await account()
    await click('setup')
    await view('setup')
    const button = await page.locator('[data-action=open-app]').boundingBox()
    expect(button?.height).toBeGreaterThanOrEqual(44)
    expect(button?.width).toBeGreaterThan(300)
    expect(await page.locator('[data-qr]').isVisible()).toBe(false)
    const field = await page.locator('[name=code]').boundingBox()
    expect((field?.y ?? Infinity) + (field?.height ?? 0)).toBeLessThan(844)

    // The picture first: what the browser does with a link that no app opens is its own affair.
    await click('show-qr')
    const phone = authenticatorFor(await readQr(page.locator('[data-qr]')))
    expect(phone.accountName).toBe('f9@example.com')
    await fits()
    await page.locator('[data-action=open-app]').dispatchEvent('click')
    await page.getByText('Nothing happened? Copy the key').waitFor()
  })

  test('F9: on a computer the QR code comes first, and the key is folded away', async () => {
    await open(demo, { viewport: { width: 1000, height: 800 } })
    await register('f9b')
    await account()
    await click('setup')
    await view('setup')
    expect(await page.locator('[data-qr]').isVisible()).toBe(true)
    expect(await page.locator('[data-secret]').isVisible()).toBe(false)
    await click('show-key')
    expect(await page.locator('[data-secret]').isVisible()).toBe(true)
  })

  test('F10: a complete code is sent by itself, each one once, and nothing is sent during a wait', async () => {
    const user = await enrolled(demo, 'f10')
    await open()
    let sent = 0
    page.on('request', (request) => {
      if (request.url().endsWith('/jwt/totp/verify/')) sent++
    })
    await logIn(user.username, user.password)
    await answer('000 001')
    await error('Incorrect code')
    await type('')
    await type('000001')
    expect(sent).toBe(1)
    for (let i = 2; i <= 5; i++) {
      await Promise.all([page.waitForResponse('**/api/jwt/totp/verify/'), type(`00000${i}`)])
      await error(i < 5 ? 'Incorrect code' : 'Too many incorrect codes')
    }
    expect(await page.locator('[data-action=verify]').getAttribute('aria-disabled')).toBe('true')
    await type('000006')
    await page.press('[name=code]', 'Enter')
    expect(sent).toBe(5)
    await click('use-backup-code')
    await type(user.backupCodes[0] ?? '')
    await click('verify')
    await account()
  })

  test('F10: where app codes are locked, the form asks for a backup code by itself', async () => {
    const user = await enrolled(demo, 'f10locked')
    await open()
    await logIn(user.username, user.password)
    await answer('000000')
    await error('Incorrect code')
    const database = await openSqlite(demo.databasePath)
    // The hard cap is 100, which takes days of waiting.
    database.exec('UPDATE totp_failure SET consecutive = 100')
    database.close()
    await answer('000001')
    await error('Codes from your authenticator app are locked')
    await page.getByLabel('Backup code', { exact: true }).fill(user.backupCodes[0] ?? '')
    await click('verify')
    await account()
    await page.locator('[data-locked]').waitFor()
  })

  test('F11: lifetimes and numbers on the screen are those of the server', async () => {
    const other = await demoWith({
      TOTP_TRUSTED_DEVICE_DAYS: '7',
      TOTP_TOKEN_MAX_AGE: '45',
      TOTP_MAX_AUTHENTICATORS: '2',
    })
    const user = await enrolled(other, 'f11')
    await open(other)
    await logIn(user.username, user.password)
    await view('challenge')
    await page.getByLabel('Don’t ask for a code on this device for 7 days').waitFor()
    expect(await text('[data-time-left]')).toMatch(/^0:4\d$/)
    await answer(user.nextCode())
    await account()
    expect(await text('[data-action=new-phone]')).toBe('Add authenticator')
    await page.getByText('for 7 days').waitFor()
  })

  test('F11: where no device can be trusted, no screen offers it', async () => {
    const other = await demoWith({ TOTP_TRUSTED_DEVICE_DAYS: '0' })
    const user = await enrolled(other, 'f11')
    await open(other)
    await logIn(user.username, user.password)
    await view('challenge')
    expect(await page.locator('[name=trust-device]').count()).toBe(0)
    await answer(user.nextCode())
    await account()
    expect(await page.getByText('Trusted devices').count()).toBe(0)
  })

  test('F12: a recovery link says whether it works yet, and asks for a password only then', async () => {
    const slow = await demoWith({ TOTP_RECOVERY_DELAY: '5400', OUTBOX_DIR: 'outbox' })
    const user = await enrolled(slow, 'f12')
    await slow.call('POST', '/api/totp/recovery/', { body: { email: 'f12@example.com' } })
    const link = await linkIn(join(slow.folder, 'outbox'))
    await open(slow)

    await page.goto(link)
    await page.getByText('(in 1 h').waitFor()
    expect(await page.locator('[name=password]').count()).toBe(0)

    await page.goto(link.replace(/until=\d+/, `until=${now() - 1}`).replace(/from=\d+/, `from=${now() - 60}`))
    await page.getByText('This link has expired').waitFor()
    expect(await page.locator('main button').allInnerTexts()).toEqual(['Request a new link'])

    // A page that does not know when: the server says so, and the form goes away.
    await page.goto(link.replace(/&(from|until)=\d+/g, ''))
    await page.fill('[name=password]', user.password)
    await click('confirm-recovery')
    await page.getByText('(in 1 h').waitFor()
    expect(await page.locator('[name=password]').count()).toBe(0)
    await click('cancel-recovery')
    await notice('Recovery was canceled')

    await page.goto(link)
    await click('cancel-recovery')
    await page.getByText('nothing left to cancel').waitFor()
    expect(await page.locator('main button').allInnerTexts()).toEqual(['Request a new link'])
  })

  test('F13: Back leads to the step before, and a reload stays where one was', async () => {
    const user = await enrolled(demo, 'f13')
    await open()
    await logIn(user.username, user.password)
    await view('challenge')
    await page.goBack()
    await view('login')
    await page.goForward()
    await view('challenge')
    await page.reload()
    await answer(user.nextCode())
    await account()

    await click('new-phone')
    await click('begin-new-phone')
    await view('setup')
    await page.goBack()
    await account()
  })
})

function linkIn(folder: string): Promise<string> {
  return vi.waitFor(
    async () => {
      for (const file of await readdir(folder)) {
        const mail = await PostalMime.parse(await readFile(join(folder, file)))
        const [link] = /http\S+#\S+/.exec(mail.text ?? '') ?? []
        if (link) return link
      }
      throw new Error('no mail with a link')
    },
    { timeout: 10_000 },
  )
}
