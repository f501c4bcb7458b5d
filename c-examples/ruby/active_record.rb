# ActiveRecord with a new IAM token for every connection of its pool: active_record.rb HOST PORT USER DBNAME
# In Rails, an initializer: config/initializers/pgiam.rb with the module TokenAtConnect and the line after it.
# PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program.
require "active_record"
require "active_record/connection_adapters/postgresql_adapter"
require_relative "connect"

# Connections whose configuration has `password: rds-iam` get a token, all others are made as ever.
module TokenAtConnect
  def new_client(parameters)
    return super unless parameters[:password] == "rds-iam"

    token = PgIam.generate_token(parameters[:host], (parameters[:port] || 5432).to_i, parameters[:user])
    super({ sslmode: "verify-full" }.merge(parameters, password: token))
  end
end
ActiveRecord::ConnectionAdapters::PostgreSQLAdapter.singleton_class.prepend(TokenAtConnect)

if $PROGRAM_NAME == __FILE__
  host, port, user, dbname = ARGV
  abort "usage: active_record.rb HOST PORT USER DBNAME" unless dbname
  begin
    ActiveRecord::Base.establish_connection(
      adapter: "postgresql", host: host, port: port, username: user, database: dbname, password: "rds-iam"
    )
    puts "logged in as #{ActiveRecord::Base.connection.select_value("select current_user")}"
  rescue RuntimeError, ActiveRecord::ActiveRecordError => error
    abort error.message
  end
end
