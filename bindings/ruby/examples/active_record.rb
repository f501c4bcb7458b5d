# frozen_string_literal: true

# ActiveRecord with a new IAM token for every connection of its pool: active_record.rb HOST PORT USER DBNAME
# In Rails: `gem "pgiam"` in the Gemfile, and `pgiam: true` in config/database.yml.
# PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program.
require "active_record"
require "pgiam"

host, port, user, dbname = ARGV
abort "usage: active_record.rb HOST PORT USER DBNAME" unless dbname
begin
  ActiveRecord::Base.establish_connection(
    adapter: "postgresql", host: host, port: port, username: user, database: dbname, pgiam: true
  )
  puts "logged in as #{ActiveRecord::Base.connection.select_value("select current_user")}"
rescue Pgiam::Error, ActiveRecord::ActiveRecordError => error
  abort error.message
end
