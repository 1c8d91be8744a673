export { type AuthenticatorApp, authenticatorFor } from './authenticator-app.ts'
export { type FakeClock, fakeClock } from './fake-clock.ts'
export { type StoreCase, storeCases } from './store-cases.ts'
