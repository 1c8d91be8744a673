import { createApi, type RecoveryLink } from './api.ts'
import type { App, View } from './app.ts'
import { withStepUp } from './dialogs.ts'
import { announce, el } from './dom.ts'
import { Refusal } from './refusal.ts'
import { type BegunSetup, forgetUnfinished, readUnfinished } from './unfinished.ts'
import { accountView } from './views/account.ts'
import { backupCodesView } from './views/backup-codes.ts'
import { challengeView } from './views/challenge.ts'
import { loginView } from './views/login.ts'
import { recoveryView } from './views/recovery.ts'
import { recoveryLinkView } from './views/recovery-link.ts'
import { registerView } from './views/register.ts'
import { setupView } from './views/setup.ts'
import { SESSION_ENDED, SETUP_OVER } from './wording.ts'

const main = must('view')
let present: View | null = null
let lastLink: RecoveryLink | null = null

const app: App = {
  api: createApi((username) => app.toLogin({ notice: SESSION_ENDED, username })),
  toLogin: ({ notice, username } = {}) => show(loginView(app, username), notice),
  toRegister: () => show(registerView(app)),
  async toNextStep(loggedIn, username, notice) {
    if (loggedIn.next === 'account') return app.toAccount(notice === undefined ? {} : { notice })
    if (loggedIn.next === 'challenge') return app.toChallenge(loggedIn.challenge)
    const { enrollmentToken } = loggedIn
    const enrollment = await app.api.create({ enrollmentToken })
    app.toSetup({ enrollment, username, name: '', isFurther: false, enrollmentToken })
  },
  toChallenge: (challenge) => show(challengeView(app, challenge)),
  toSetup: (given) => show(setupView(app, given)),
  toBackupCodes: (given) => show(backupCodesView(app, given)),
  toRecovery: () => show(recoveryView(app)),
  toRecoveryLink(link) {
    lastLink = link
    show(recoveryLinkView(app, link))
  },
  toAccount: ({ notice } = {}) => show(accountView(app), notice),
}

function show(view: View, notice = ''): void {
  for (const dialog of document.querySelectorAll('dialog')) dialog.close()
  present = view
  keepInHistory(view.name)
  document.title = `${view.title} · totp-kit demo`
  main.setAttribute('data-view', view.name)
  main.replaceChildren(
    ...(notice === '' ? [] : [el('p', { class: 'notice', 'data-notice': true }, notice)]),
    ...view.content,
  )
  // The focus goes past the notice, so a live region outside of the view says it.
  announce(notice)
  window.scrollTo(0, 0)
  view.focus.focus({ preventScroll: true })
}

/** Views that the browser's Back button leaves for the one before. */
const STEPS: ReadonlySet<string> = new Set(['register', 'challenge', 'setup', 'backup-codes', 'recovery'])
/** Steps that are done once they are left: Back does not return to them. */
const DONE_ONCE_LEFT: ReadonlySet<string> = new Set(['setup', 'backup-codes'])

// The history holds the names of views only. Tokens are in sessionStorage, codes and secrets nowhere.
function keepInHistory(name: View['name']): void {
  const before = placeInHistory()
  const isNext = STEPS.has(name) && before !== null && before !== name && !DONE_ONCE_LEFT.has(before)
  if (isNext) history.pushState({ view: name }, '')
  else history.replaceState({ view: name }, '')
}

function placeInHistory(): string | null {
  return (history.state as { view?: string } | null)?.view ?? null
}

function must(id: string): HTMLElement {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`index.html has no #${id}`)
  return element
}

/** Shows what the history names, as far as it still exists. */
function goTo(name: string | null): void {
  const unfinished = readUnfinished()
  if (name === 'challenge' && unfinished?.kind === 'challenge') app.toChallenge(unfinished)
  else if (name === 'setup' && unfinished?.kind === 'setup') resume(unfinished)
  else if (name === 'recovery-link' && lastLink !== null) app.toRecoveryLink(lastLink)
  else if (app.api.isLoggedIn()) app.toAccount(name === 'setup' ? { notice: SETUP_OVER } : {})
  else if (name === 'register') app.toRegister()
  else if (name === 'recovery') app.toRecovery()
  else app.toLogin()
}

/** The setup again, with the secret that the app may hold already. */
async function resume({ username, name, enrollmentToken, isFurther }: BegunSetup): Promise<void> {
  main.replaceChildren(el('p', { class: 'card', role: 'status' }, 'Loading…'))
  try {
    const reason = 'Enter a code to continue the setup.'
    const enrollment = await withStepUp(app, reason, () => app.api.create({ name, enrollmentToken }))
    if (enrollment === null) return app.toAccount()
    app.toSetup({ enrollment, username, name, enrollmentToken, isFurther })
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    if (error.code === 'session_ended') return
    if (app.api.isLoggedIn()) return app.toAccount()
    forgetUnfinished()
    app.toLogin({ notice: SETUP_OVER, username })
  }
}

/** The link of a mail, removed from the address bar: nobody should read the token there, or in the history. */
function takeLink(): RecoveryLink | null {
  const said = new URLSearchParams(location.hash.slice(1))
  const [uid, token] = [said.get('uid'), said.get('token')]
  if (uid === null || token === null) return null
  history.replaceState(history.state, '', location.pathname + location.search)
  const ms = (name: string) => (said.has(name) ? Number(said.get(name)) * 1000 : null)
  return { uid, token, fromMs: ms('from'), untilMs: ms('until'), onlyCancels: said.has('cancel') }
}

// A link that is opened where the page is open already loads nothing.
window.addEventListener('hashchange', () => {
  const link = takeLink()
  if (link !== null) app.toRecoveryLink(link)
})

window.addEventListener('popstate', () => {
  if (location.hash !== '') return
  if (present?.holdsBack?.() === true) return history.pushState({ view: present.name }, '')
  goTo(placeInHistory())
})

window.addEventListener('beforeunload', (event) => {
  if (present?.holdsBack?.() === true) event.preventDefault()
})

const link = takeLink()
if (link !== null) app.toRecoveryLink(link)
else goTo(placeInHistory())
