import type { LoggedIn } from '../api.ts'
import type { App, View } from '../app.ts'
import { el, linkButton } from '../dom.ts'
import { emailField, field, form, passwordField } from '../form.ts'

export function registerView(app: App): View {
  const username = field({
    name: 'username',
    label: 'Username',
    empty: 'Enter a username.',
    attributes: { autocomplete: 'username' },
  })
  const email = emailField()
  const password = passwordField('Password', 'new-password')

  async function submit(): Promise<void> {
    const account = {
      username: username.input.value.trim(),
      email: email.input.value.trim(),
      password: password.input.value,
    }
    await app.api.register(account)
    let loggedIn: LoggedIn
    try {
      loggedIn = await app.api.logIn(account.username, account.password)
    } catch {
      return app.toLogin({ notice: 'Your account is ready. Log in to use it.', username: account.username })
    }
    await app.toNextStep(loggedIn, account.username, `Welcome, ${account.username}. Your account is ready.`)
  }

  return {
    name: 'register',
    title: 'Create an account',
    content: [
      el(
        'section',
        { class: 'card narrow' },
        el('h1', { tabindex: '-1' }, 'Create an account'),
        form({
          action: 'register',
          label: 'Create account',
          busyLabel: 'Creating…',
          fields: [username, email, password],
          submit,
        }),
        el(
          'p',
          { class: 'elsewhere' },
          'Already have an account? ',
          linkButton('go-login', 'Log in', () => app.toLogin()),
        ),
      ),
    ],
    focus: username.input,
  }
}
