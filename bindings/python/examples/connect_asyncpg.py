"""Log in with asyncpg and an IAM token: connect_asyncpg.py HOST PORT USER DBNAME
PGSSLROOTCERT names the RDS certificate bundle."""

import asyncio
import sys

import asyncpg
import pgiam.asyncpg


async def main() -> None:
    host, port, user, dbname = sys.argv[1:]
    async with pgiam.asyncpg.create_pool(host=host, port=int(port), user=user, database=dbname, min_size=1) as pool:
        print("logged in as", await pool.fetchval("select current_user"))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (pgiam.Error, asyncpg.PostgresError, OSError) as error:
        sys.exit(str(error))
