import type { App, View } from '../app.ts'
import { el, linkButton } from '../dom.ts'
import { field, form } from '../form.ts'

export function loginView(app: App, knownUsername = ''): View {
  const username = field({
    name: 'username',
    label: 'User name',
    value: knownUsername,
    attributes: { autocomplete: 'username' },
  })
  const password = field({
    name: 'password',
    label: 'Password',
    type: 'password',
    attributes: { autocomplete: 'current-password' },
  })

  async function submit(): Promise<void> {
    const name = username.input.value.trim()
    const loggedIn = await app.api.logIn(name, password.input.value)
    if (loggedIn.next === 'account') return app.toAccount()
    const { next, token } = loggedIn
    if (next === 'challenge') return app.toChallenge({ token, username: name })
    const enrolment = await app.api.createBeforeLogIn(token)
    app.toSetup({ enrolment, username: name, live: [], enrolmentToken: token })
  }

  return {
    name: 'login',
    title: 'Log in',
    content: [
      el(
        'section',
        { class: 'card narrow' },
        el('h1', { tabindex: '-1' }, 'Log in'),
        form({ action: 'login', label: 'Log in', busyLabel: 'Logging in…', fields: [username, password], submit }),
        el('p', { class: 'elsewhere' }, 'No account yet? ', linkButton('go-register', 'Register', app.toRegister)),
      ),
    ],
    focus: knownUsername === '' ? username.input : password.input,
  }
}
