// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {CommonBase} from "forge-std/Base.sol";
import {Script} from "forge-std/Script.sol";
import {stdJson} from "forge-std/StdJson.sol";

import {Guarded} from "../src/access/Guarded.sol";
import {Roles} from "../src/access/Roles.sol";
import {Attendance} from "../src/dispute/Attendance.sol";
import {Contradictions} from "../src/dispute/Contradictions.sol";
import {Disputes} from "../src/dispute/Disputes.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IPlants} from "../src/interfaces/IPlants.sol";
import {ISettlement} from "../src/interfaces/ISettlement.sol";
import {PaymentEscrow} from "../src/market/PaymentEscrow.sol";
import {Settlement} from "../src/market/Settlement.sol";
import {ModelRegistry} from "../src/registry/ModelRegistry.sol";
import {ProviderRegistry} from "../src/registry/ProviderRegistry.sol";
import {RewardPool} from "../src/staking/RewardPool.sol";
import {Staking} from "../src/staking/Staking.sol";
import {FuncToken} from "../src/token/FuncToken.sol";
import {CommitmentLog} from "../src/verify/CommitmentLog.sol";
import {Pins} from "../src/verify/Pins.sol";
import {Plants} from "../src/verify/Plants.sol";
import {VerifierSet} from "../src/verify/VerifierSet.sol";

/// @notice All contracts of a deployment, and the steps that make one; the tests deploy by the same steps.
/// @dev The contracts know each other by immutable addresses: each is computed from the deployer's nonce before it exists.
abstract contract Deployment is CommonBase {
    /// @dev Names as in `deploy/params/*.json`; periods in seconds, amounts in wei.
    struct Params {
        uint128 minimumProviderStake;
        uint128 gpuStake;
        uint128 minimumVerifierStake;
        uint64 unbondingPeriod;
        uint64 jailPeriod;
        uint64 rotationThaw;
        uint64 thawPeriod;
        uint64 commitDelay;
        uint64 deprecationDelay;
        VerifierSet.Times times;
        uint64 committeeSize;
        uint64 challengeWindow;
        uint64 retention;
        uint64 pinWindow;
        uint64 rewardEpoch;
        uint96 emission;
        uint64 timelockDelay;
        uint64 adminDelay;
        uint64 safetyMargin;
        uint16 verifierBps;
        uint16 treasuryBps;
        uint16 burnBps;
        IDisputes.Parameters disputes;
        IPlants.Terms plants;
    }

    AccessManager public access;
    TimelockController public timelock;
    FuncToken public token;
    Staking public staking;
    RewardPool public rewards;
    ProviderRegistry public providers;
    ModelRegistry public models;
    PaymentEscrow public escrow;
    VerifierSet public verifiers;
    CommitmentLog public commitments;
    Settlement public settlement;
    Disputes public disputes;
    Contradictions public contradictions;
    Pins public pins;
    Plants public plants;
    Attendance public attendance;

    error TooShort(string period, uint256 has, uint256 needs);

    /// @param deployer who creates the contracts, and gives up all roles at the end
    /// @param governor proposes to the timelock and carries out
    /// @param guardian may pause entries
    function _deploy(address deployer, address governor, address guardian, address treasury, Params memory p) internal {
        _requireLifetimes(p);
        uint256 nonce = vm.getNonce(deployer);
        // In the order in which they are created below.
        staking = Staking(_at(deployer, nonce + 3));
        verifiers = VerifierSet(_at(deployer, nonce + 4));
        models = ModelRegistry(_at(deployer, nonce + 5));
        providers = ProviderRegistry(_at(deployer, nonce + 6));
        escrow = PaymentEscrow(_at(deployer, nonce + 7));
        commitments = CommitmentLog(_at(deployer, nonce + 8));
        settlement = Settlement(_at(deployer, nonce + 9));
        rewards = RewardPool(_at(deployer, nonce + 10));
        disputes = Disputes(_at(deployer, nonce + 11));
        contradictions = Contradictions(_at(deployer, nonce + 12));
        pins = Pins(_at(deployer, nonce + 13));
        plants = Plants(_at(deployer, nonce + 14));
        attendance = Attendance(_at(deployer, nonce + 15));

        access = new AccessManager(deployer);
        timelock = new TimelockController(p.timelockDelay, _one(governor), _one(governor), address(0));
        token = new FuncToken(treasury);
        _createBase(p);
        _createMarket(treasury, p);
        _govern(deployer, guardian, treasury, p);
    }

    function _createBase(Params memory p) private {
        address authority = address(access);
        Staking.Wiring memory w =
            Staking.Wiring(token, commitments, address(disputes), address(settlement), address(rewards), address(plants));
        _created(address(new Staking(authority, w, p.unbondingPeriod)), address(staking));
        _created(address(new VerifierSet(authority, staking, p.minimumVerifierStake, p.times, p.committeeSize)), address(verifiers));
        _created(address(new ModelRegistry(authority, verifiers, p.commitDelay, p.deprecationDelay)), address(models));
        ProviderRegistry.Wiring memory r = ProviderRegistry.Wiring(staking, models, address(disputes));
        _created(
            address(new ProviderRegistry(authority, r, p.minimumProviderStake, p.gpuStake, p.jailPeriod, p.rotationThaw)),
            address(providers)
        );
    }

    function _createMarket(address treasury, Params memory p) private {
        address authority = address(access);
        _created(address(new PaymentEscrow(authority, token, address(settlement), p.thawPeriod)), address(escrow));
        CommitmentLog.Wiring memory c = CommitmentLog.Wiring(providers, address(disputes));
        _created(
            address(new CommitmentLog(c, verifiers.genesis(), p.times.epochLength, p.challengeWindow, p.retention)), address(commitments)
        );
        Settlement.Wiring memory s =
            Settlement.Wiring(escrow, staking, models, commitments, verifiers, rewards, address(disputes), attendance, providers);
        _created(
            address(new Settlement(authority, s, ISettlement.Parameters(treasury, p.verifierBps, p.treasuryBps, p.burnBps))),
            address(settlement)
        );
        _created(address(new RewardPool(authority, token, staking, address(settlement), p.rewardEpoch, p.emission)), address(rewards));
        Disputes.Wiring memory d = Disputes.Wiring(
            token, staking, providers, models, commitments, verifiers, settlement, address(contradictions), address(plants), attendance
        );
        _created(address(new Disputes(authority, d, p.disputes)), address(disputes));
        _created(address(new Contradictions(commitments, providers, disputes)), address(contradictions));
        _created(address(new Pins(commitments, verifiers, p.pinWindow, p.retention)), address(pins));
        Plants.Wiring memory l = Plants.Wiring(token, staking, commitments, verifiers, pins, disputes);
        _created(address(new Plants(authority, l, p.plants)), address(plants));
        _created(address(new Attendance(disputes, verifiers)), address(attendance));
    }

    /// @dev The timelock governs: parameters after its own delay, roles after one that is longer than unbonding and thawing.
    function _govern(address deployer, address guardian, address treasury, Params memory p) private {
        address[5] memory guarded = [address(staking), address(verifiers), address(models), address(providers), address(escrow)];
        for (uint256 i; i < guarded.length; ++i) {
            access.setTargetFunctionRole(guarded[i], _selector(Guarded.pause.selector), Roles.GUARDIAN);
        }
        access.setTargetFunctionRole(address(settlement), _selector(Settlement.setParameters.selector), Roles.GOVERNANCE);
        access.setTargetFunctionRole(address(rewards), _selector(RewardPool.setEmission.selector), Roles.GOVERNANCE);
        access.setTargetFunctionRole(address(disputes), _selector(Disputes.setParameters.selector), Roles.GOVERNANCE);
        access.setTargetFunctionRole(address(disputes), _selector(Disputes.cancel.selector), Roles.GOVERNANCE);
        access.setTargetFunctionRole(address(plants), _selector(Plants.note.selector), Roles.PLANTER);
        access.grantRole(Roles.GUARDIAN, guardian, 0);
        access.grantRole(Roles.PLANTER, treasury, 0);
        access.grantRole(Roles.GOVERNANCE, address(timelock), 0);
        access.grantRole(access.ADMIN_ROLE(), address(timelock), uint32(p.adminDelay));
        access.renounceRole(access.ADMIN_ROLE(), deployer);
    }

    /// @dev The lifetimes that the contracts' assumptions ask for.
    function _requireLifetimes(Params memory p) private pure {
        uint256 judged = uint256(p.disputes.disputeWindow) + 2 * p.disputes.verdictPeriod + p.disputes.appealPeriod;
        _atLeast("unbondingPeriod", p.unbondingPeriod, p.challengeWindow + judged + p.safetyMargin);
        _atLeast("unbondingPeriod", p.unbondingPeriod, p.challengeWindow + judged + 2 * p.plants.answerWindow);
        // A planter asks once nobody can post any more, or a lazy verifier would learn what it should have found.
        _atLeast("plantAnswerWindow", p.plants.answerWindow, (p.times.postingEpochs + 1) * p.times.epochLength);
        _atLeast("challengeWindow", p.challengeWindow, p.safetyMargin + p.times.epochLength);
        _atLeast("disputeWindow", p.disputes.disputeWindow, p.challengeWindow);
        _atLeast("retention", p.retention, judged);
        _atLeast("keyEpochs", p.times.keyEpochs * p.times.epochLength, p.unbondingPeriod);
        _atLeast("adminDelay", p.adminDelay, p.unbondingPeriod);
        _atLeast("adminDelay", p.adminDelay, p.thawPeriod);
        _atLeast("thawPeriod", p.thawPeriod, p.challengeWindow);
        _atLeast("pinWindow", p.retention, p.pinWindow);
    }

    function _atLeast(string memory period, uint256 has, uint256 needs) private pure {
        require(has >= needs, TooShort(period, has, needs));
    }

    function _created(address is_, address expected) private pure {
        require(is_ == expected, "creation order");
    }

    function _at(address deployer, uint256 nonce) private pure returns (address) {
        return vm.computeCreateAddress(deployer, nonce);
    }

    function _one(address account) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = account;
    }

    function _selector(bytes4 selector) private pure returns (bytes4[] memory list) {
        list = new bytes4[](1);
        list[0] = selector;
    }
}

/// @notice Deploys with the parameters of `deploy/params/$NETWORK.json` and writes `deployments/<chainid>.json`. GOVERNOR, GUARDIAN and TREASURY
/// default to the deployer.
contract Deploy is Script, Deployment {
    using stdJson for string;

    function run() external {
        string memory network = vm.envOr("NETWORK", string("devnet"));
        Params memory p = readParams(string.concat("deploy/params/", network, ".json"));
        uint256 fromBlock = block.number;
        address governor = vm.envOr("GOVERNOR", msg.sender);
        address guardian = vm.envOr("GUARDIAN", msg.sender);
        address treasury = vm.envOr("TREASURY", msg.sender);
        vm.startBroadcast();
        _deploy(msg.sender, governor, guardian, treasury, p);
        vm.stopBroadcast();

        string memory o = "deployment";
        o.serialize("chainId", block.chainid);
        o.serialize("fromBlock", fromBlock);
        o.serialize("network", network);
        o.serialize("governor", governor);
        o.serialize("guardian", guardian);
        o.serialize("treasury", treasury);
        o.serialize("AccessManager", address(access));
        o.serialize("TimelockController", address(timelock));
        o.serialize("FuncToken", address(token));
        o.serialize("Staking", address(staking));
        o.serialize("RewardPool", address(rewards));
        o.serialize("ProviderRegistry", address(providers));
        o.serialize("ModelRegistry", address(models));
        o.serialize("PaymentEscrow", address(escrow));
        o.serialize("VerifierSet", address(verifiers));
        o.serialize("CommitmentLog", address(commitments));
        o.serialize("Pins", address(pins));
        o.serialize("Plants", address(plants));
        o.serialize("Settlement", address(settlement));
        o.serialize("Attendance", address(attendance));
        o.serialize("Contradictions", address(contradictions));
        string memory json = o.serialize("Disputes", address(disputes));
        json.write(string.concat("deployments/", vm.toString(block.chainid), ".json"));
    }

    function readParams(string memory path) public view returns (Params memory p) {
        string memory json = vm.readFile(path);
        p.minimumProviderStake = uint128(json.readUint(".minimumProviderStake"));
        p.gpuStake = uint128(json.readUint(".gpuStake"));
        p.minimumVerifierStake = uint128(json.readUint(".minimumVerifierStake"));
        p.unbondingPeriod = uint64(json.readUint(".unbondingPeriod"));
        p.jailPeriod = uint64(json.readUint(".jailPeriod"));
        p.rotationThaw = uint64(json.readUint(".rotationThaw"));
        p.thawPeriod = uint64(json.readUint(".thawPeriod"));
        p.commitDelay = uint64(json.readUint(".commitDelay"));
        p.deprecationDelay = uint64(json.readUint(".deprecationDelay"));
        p.times = VerifierSet.Times({
            epochLength: uint64(json.readUint(".epochLength")),
            postingEpochs: uint64(json.readUint(".postingEpochs")),
            keyEpochs: uint64(json.readUint(".keyEpochs"))
        });
        p.committeeSize = uint64(json.readUint(".committeeSize"));
        p.challengeWindow = uint64(json.readUint(".challengeWindow"));
        p.retention = uint64(json.readUint(".retention"));
        p.pinWindow = uint64(json.readUint(".pinWindow"));
        p.rewardEpoch = uint64(json.readUint(".rewardEpoch"));
        p.emission = uint96(json.readUint(".emission"));
        p.timelockDelay = uint64(json.readUint(".timelockDelay"));
        p.adminDelay = uint64(json.readUint(".adminDelay"));
        p.safetyMargin = uint64(json.readUint(".safetyMargin"));
        p.verifierBps = uint16(json.readUint(".verifierBps"));
        p.treasuryBps = uint16(json.readUint(".treasuryBps"));
        p.burnBps = uint16(json.readUint(".burnBps"));
        p.disputes = IDisputes.Parameters({
            bond: uint96(json.readUint(".disputeBond")),
            appealBond: uint96(json.readUint(".appealBond")),
            slashBps: uint16(json.readUint(".slashBps")),
            smallNetworkSlashBps: uint16(json.readUint(".smallNetworkSlashBps")),
            challengerBps: uint16(json.readUint(".challengerBps")),
            judgesFee: uint96(json.readUint(".judgesFee")),
            appealFee: uint96(json.readUint(".appealFee")),
            disputeWindow: uint32(json.readUint(".disputeWindow")),
            evidencePeriod: uint32(json.readUint(".evidencePeriod")),
            verdictPeriod: uint32(json.readUint(".verdictPeriod")),
            appealPeriod: uint32(json.readUint(".appealPeriod"))
        });
        p.plants = IPlants.Terms({
            bounty: uint96(json.readUint(".plantBounty")),
            fine: uint96(json.readUint(".plantFine")),
            answerWindow: uint64(json.readUint(".plantAnswerWindow")),
            lifetime: p.unbondingPeriod,
            spared: uint32(json.readUint(".plantsSpared"))
        });
    }
}
