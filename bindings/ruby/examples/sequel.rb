# frozen_string_literal: true

# Sequel with a new IAM token for every connection of its pool: sequel.rb HOST PORT USER DBNAME
# PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program.
require "sequel"
require "pgiam"

host, port, user, dbname = ARGV
abort "usage: sequel.rb HOST PORT USER DBNAME" unless dbname
begin
  database = Sequel.connect(adapter: "postgres", host: host, port: port, user: user, database: dbname, pgiam: true)
  puts "logged in as #{database.fetch("select current_user").single_value}"
rescue Pgiam::Error, Sequel::Error => error
  abort error.message
end
