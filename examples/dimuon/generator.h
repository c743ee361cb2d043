// Dimuon events in the layout of CMS's reduced NanoAOD: nMuon, Muon_pt[nMuon], ...
//
// Each event is a function of the seed and of its number alone, so a dataset is the same however it
// is cut into files. Masses and widths in GeV, rounded from the Particle Data Group's review of 2024;
// the yields are chosen so that the spectrum looks like that of the first CMS data, and measure nothing.

#include <TFile.h>
#include <TMath.h>
#include <TTree.h>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace dimuon {

constexpr double kMuonMass = 0.1056584;
constexpr double kLightest = 0.25, kHeaviest = 300.; // of the spectrum
constexpr int kMostMuons = 4;
constexpr Long64_t kEventsPerCluster = 50000;

struct Resonance {
   double mass, width, yield; // yield: share of the pairs
};

constexpr Resonance kResonances[] = {
   {0.5479, 0.0000, 0.004}, // eta
   {0.7753, 0.1474, 0.022}, // rho
   {0.7827, 0.0087, 0.018}, // omega
   {1.0195, 0.0042, 0.025}, // phi
   {3.0969, 0.0001, 0.090}, // J/psi
   {3.6861, 0.0003, 0.006}, // psi'
   {9.4604, 0.0001, 0.040}, // Upsilon(1S)
   {10.023, 0.0000, 0.013}, // Upsilon(2S)
   {10.355, 0.0000, 0.009}, // Upsilon(3S)
   {91.188, 2.4955, 0.040}, // Z
};

// A stream of random numbers for one event: splitmix64, started at a hash of seed and event.
class Random {
   std::uint64_t fState;

   static std::uint64_t Mix(std::uint64_t z)
   {
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
      return z ^ (z >> 31);
   }

public:
   Random(std::uint64_t seed, std::uint64_t event) : fState(Mix(Mix(seed) + event)) {}

   double Uniform() // 0 < u < 1
   {
      fState += 0x9e3779b97f4a7c15ull;
      return ((Mix(fState) >> 11) + 0.5) * 0x1p-53;
   }
   double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
   double Gauss() { return std::sqrt(-2. * std::log(Uniform())) * std::cos(TMath::TwoPi() * Uniform()); }
   double Lorentz() { return std::tan(TMath::Pi() * (Uniform() - 0.5)); }
};

struct Muon {
   float pt, eta, phi;
   int charge;
};

inline double Mass(Random &random)
{
   double pick = random.Uniform();
   for (const auto &resonance : kResonances) {
      if (pick < resonance.yield) {
         for (int attempt = 0; attempt < 100; ++attempt) {
            const double natural = resonance.mass + 0.5 * resonance.width * random.Lorentz();
            const double mass = natural * (1. + 0.012 * random.Gauss()); // the detector's resolution
            if (mass > kLightest && mass < kHeaviest && std::abs(natural - resonance.mass) < 8. * resonance.width + 0.01)
               return mass;
         }
         return resonance.mass;
      }
      pick -= resonance.yield;
   }
   // The continuum: flat in log(m) up to some 12 GeV, and falling above.
   while (true) {
      const double mass = kLightest * std::pow(kHeaviest / kLightest, random.Uniform());
      if (random.Uniform() < 1. / (1. + std::pow(mass / 12., 2.2)))
         return mass;
   }
}

inline Muon Track(double px, double py, double pz, int charge)
{
   const double pt = std::hypot(px, py);
   return {static_cast<float>(pt), static_cast<float>(std::asinh(pz / pt)), static_cast<float>(std::atan2(py, px)),
           charge};
}

// A pair of muons from the decay, isotropic at rest, of something of this mass.
inline void Pair(Random &random, double mass, Muon *muons)
{
   const double pt = -3. * std::log(random.Uniform()) + 0.1 * mass, phi = random.Uniform(-TMath::Pi(), TMath::Pi());
   const double rapidity = random.Uniform(-2., 2.), transverse = std::hypot(mass, pt);
   const double p[3] = {pt * std::cos(phi), pt * std::sin(phi), transverse * std::sinh(rapidity)};
   const double energy = transverse * std::cosh(rapidity);

   const double momentum = std::sqrt(0.25 * mass * mass - kMuonMass * kMuonMass);
   const double cosine = random.Uniform(-1., 1.), sine = std::sqrt(1. - cosine * cosine);
   const double around = random.Uniform(0., TMath::TwoPi());
   const double q[3] = {momentum * sine * std::cos(around), momentum * sine * std::sin(around), momentum * cosine};

   const double along = p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
   const int charge = random.Uniform() < 0.5 ? 1 : -1;
   for (int i : {0, 1}) { // boost +q and -q from rest
      const double sign = i ? -1. : 1.;
      const double boost = (sign * along / (energy + mass) + 0.5 * mass) / mass;
      muons[i] = Track(sign * q[0] + boost * p[0], sign * q[1] + boost * p[1], sign * q[2] + boost * p[2],
                       i ? -charge : charge);
   }
   if (random.Uniform() < 0.08) // combinations of muons that have nothing to do with each other
      muons[1].charge = muons[0].charge;
}

inline int Event(std::uint64_t seed, std::uint64_t number, Muon *muons)
{
   Random random(seed, number);
   const double pick = random.Uniform();
   const int count = pick < 0.12 ? 0 : pick < 0.38 ? 1 : pick < 0.88 ? 2 : pick < 0.97 ? 3 : 4;
   if (count >= 2)
      Pair(random, Mass(random), muons);
   for (int i = count >= 2 ? 2 : 0; i < count; ++i) {
      const double pt = 3. - 5. * std::log(random.Uniform()), eta = random.Uniform(-2.4, 2.4);
      const double phi = random.Uniform(-TMath::Pi(), TMath::Pi());
      muons[i] = {static_cast<float>(pt), static_cast<float>(eta), static_cast<float>(phi),
                  random.Uniform() < 0.5 ? 1 : -1};
   }
   return count;
}

// Write the events first <= i < last as the tree "Events" of a new file.
inline void Write(const std::string &path, Long64_t first, Long64_t last, std::uint64_t seed)
{
   TFile file(path.c_str(), "RECREATE");
   if (file.IsZombie())
      throw std::runtime_error("cannot write " + path);
   TTree tree("Events", "Dimuon events, simulated");
   tree.SetAutoFlush(kEventsPerCluster);
   UInt_t nMuon = 0;
   Float_t pt[kMostMuons], eta[kMostMuons], phi[kMostMuons], mass[kMostMuons];
   Int_t charge[kMostMuons];
   tree.Branch("nMuon", &nMuon, "nMuon/i");
   tree.Branch("Muon_pt", pt, "Muon_pt[nMuon]/F");
   tree.Branch("Muon_eta", eta, "Muon_eta[nMuon]/F");
   tree.Branch("Muon_phi", phi, "Muon_phi[nMuon]/F");
   tree.Branch("Muon_mass", mass, "Muon_mass[nMuon]/F");
   tree.Branch("Muon_charge", charge, "Muon_charge[nMuon]/I");
   Muon muons[kMostMuons];
   for (Long64_t number = first; number < last; ++number) {
      nMuon = Event(seed, number, muons);
      for (UInt_t i = 0; i < nMuon; ++i) {
         pt[i] = muons[i].pt;
         eta[i] = muons[i].eta;
         phi[i] = muons[i].phi;
         mass[i] = kMuonMass;
         charge[i] = muons[i].charge;
      }
      tree.Fill();
   }
   tree.Write();
}

} // namespace dimuon
