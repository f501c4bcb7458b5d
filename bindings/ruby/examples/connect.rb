# frozen_string_literal: true

# Log in to PostgreSQL with an IAM token and pg: connect.rb HOST PORT USER DBNAME
# PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program.
require "pg"
require "pgiam"

host, port, user, dbname = ARGV
abort "usage: connect.rb HOST PORT USER DBNAME" unless dbname
begin
  connection = Pgiam.connect(host: host, port: port, user: user, dbname: dbname)
  puts "logged in as #{connection.exec("select current_user").getvalue(0, 0)}"
  connection.close
rescue Pgiam::Error, PG::Error => error
  abort error.message
end
