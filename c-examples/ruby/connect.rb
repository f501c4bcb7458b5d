# Log in to PostgreSQL with an IAM token, through Fiddle and the pg gem: connect.rb HOST PORT USER DBNAME
# PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program.
require "fiddle/import"
require "pg"

module PgIam
  extend Fiddle::Importer
  dlload "libpgiam.so.0"
  extern "int pgiam_generate_token(const char *, int, const char *, const char *, void **, void **)"
  extern "void pgiam_string_free(char *)"
  extern "const char *pgiam_error_message(const void *)"
  extern "void pgiam_error_free(void *)"

  # A password for one login, good for 15 minutes.
  def self.generate_token(host, port, user, region = nil)
    place = -> { Fiddle::Pointer.malloc(Fiddle::SIZEOF_VOIDP, Fiddle::RUBY_FREE) }
    token, error = place.call, place.call
    if pgiam_generate_token(host, port, region, user, token, error) != 0
      message = pgiam_error_message(error.ptr).to_s.force_encoding("UTF-8")
      pgiam_error_free(error.ptr)
      raise message
    end
    begin
      token.ptr.to_s
    ensure
      pgiam_string_free(token.ptr)
    end
  end
end

if $PROGRAM_NAME == __FILE__
  host, port, user, dbname = ARGV
  abort "usage: connect.rb HOST PORT USER DBNAME" unless dbname
  begin
    token = PgIam.generate_token(host, port.to_i, user)
    connection = PG.connect(host: host, port: port, user: user, dbname: dbname, sslmode: "verify-full", password: token)
    puts "logged in as #{connection.exec("select current_user").getvalue(0, 0)}"
    connection.close
  rescue RuntimeError, PG::Error => error
    abort error.message
  end
end
