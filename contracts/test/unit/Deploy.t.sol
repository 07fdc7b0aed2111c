// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {Deploy, Deployment} from "../../script/Deploy.s.sol";
import {Roles} from "../../src/access/Roles.sol";
import {Staking} from "../../src/staking/Staking.sol";

/// @dev Opens the internal steps to the tests.
contract Deployer is Deployment {
    function deploy(address treasury, Params memory p) external {
        _deploy(address(this), treasury, p);
    }
}

contract DeployTest is Test {
    function test_deploy__each_parameter_file__is_deployable_and_wires_the_roles() public {
        string[2] memory networks = ["devnet", "production"];
        for (uint256 i; i < networks.length; ++i) {
            Deployment.Params memory p = new Deploy().readParams(string.concat("deploy/params/", networks[i], ".json"));
            Deployer d = new Deployer();
            d.deploy(address(this), p);
            (bool isMember,) = d.access().hasRole(Roles.DISPUTES, address(d.disputes()));
            assertTrue(isMember);
            assertEq(d.access().getTargetFunctionRole(address(d.staking()), Staking.slash.selector), Roles.DISPUTES);
            assertEq(d.token().balanceOf(address(this)), 1_000_000_000 ether);
            assertGt(d.staking().unbondingPeriod(), d.commitments().challengeWindow());
        }
    }

    function test_deploy__unbonding_shorter_than_the_windows__reverts() public {
        Deployment.Params memory p = new Deploy().readParams("deploy/params/devnet.json");
        uint64 needed = p.challengeWindow + p.disputes.disputeWindow + p.disputes.verdictPeriod;
        p.unbondingPeriod = needed;
        Deployer d = new Deployer();
        vm.expectRevert(abi.encodeWithSelector(Deployment.UnbondingTooShort.selector, needed, needed));
        d.deploy(address(this), p);
    }
}
