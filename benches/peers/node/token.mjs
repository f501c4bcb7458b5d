// A token as a program in JavaScript makes one with the AWS SDK.
//   node token.mjs token HOST PORT REGION USER   one token, credentials from the SDK's default chain
//   node token.mjs warm HOST PORT REGION USER    prints the nanoseconds per token of each of 30 batches
import { Signer } from '@aws-sdk/rds-signer';

const [mode, hostname, port, region, username] = process.argv.slice(2);
const signer = new Signer({ hostname, port: Number(port), region, username });
if (mode === 'token') {
  console.log(await signer.getAuthToken());
} else {
  for (let batch = -20; batch < 30; batch++) {
    const began = process.hrtime.bigint();
    for (let token = 0; token < 100; token++) await signer.getAuthToken();
    const took = Number(process.hrtime.bigint() - began) / 100;
    if (batch >= 0) console.log(took);
  }
}
